"""Rows of an image and a text, either of which may be missing: measured, repaired, compared, augmented, sliced.

What is missing is empty: no bytes, no characters. Everything here is a pure function of one row or one batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from noria.config import AugmentConfig, CleanConfig, CleanImageConfig
from noria.data import images, text
from noria.data.pixels import Fault, brightness_and_contrast
from noria.scenarios.base import Repaired

IMAGE, TEXT = "image", "text"
MEASURED = (
    pa.field("has_image", pa.bool_()),
    pa.field("has_text", pa.bool_()),
    pa.field("is_empty", pa.bool_()),
    pa.field("decodable", pa.bool_()),
    pa.field("is_small", pa.bool_()),
    pa.field("is_blank", pa.bool_()),
)
"""The columns that `measure` adds before those of `noria.data.text`, in order."""
_BOUNDS = CleanImageConfig()


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, the columns of `MEASURED`, and those of the text.

    An image that is missing is decodable, and neither small nor blank: it has no fault.
    """
    has_text = pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(batch.column(TEXT), "")), "")
    seen = [_seen(payload) for payload in batch.column(IMAGE).to_pylist()]
    has_image, *faults = (pa.array([row[place] for row in seen], pa.bool_()) for place in range(4))
    is_empty = pc.invert(pc.or_(has_image, has_text))
    for field, values in zip(MEASURED, (has_image, has_text, is_empty, *faults), strict=True):
        batch = batch.append_column(field, values)
    return text.measure(batch)


def _seen(payload: object) -> tuple[bool, bool, bool, bool]:
    """Whether there is an image, whether it can be decoded, whether it is small, and whether it is blank."""
    if not payload:
        return False, True, False, False
    found = images.picture_of(payload)
    if isinstance(found, Fault):
        return True, False, False, False
    _, contrast = brightness_and_contrast(found.pixels)
    return True, True, min(found.pixels.shape[:2]) < _BOUNDS.min_side, contrast < _BOUNDS.min_contrast


def repair(values: Mapping[str, object], config: CleanConfig) -> Repaired:
    """The row with its text and its label repaired, or the rule that it breaks all the same.

    A row with a bad image is refused even if its text is good: whoever made it meant both to be seen.
    Rules: `nothing`, and those of `noria.data.images` and `noria.data.text` for what is there.
    """
    image = values.get(IMAGE) or b""
    has_text = bool(str(values.get(TEXT) or "").strip())
    if not image and not has_text:
        return Repaired(None, rule="nothing", reason="neither an image nor a text")
    if image and (fault := images.image_fault(image, config.image)):
        return Repaired(None, rule=fault.rule, reason=fault.reason)
    labelled = images.with_label({**values, IMAGE: image})
    if labelled.values is None:
        return labelled
    if not has_text:
        return Repaired({**labelled.values, TEXT: ""}, repairs=labelled.repairs)
    read = text.repair(labelled.values, config)
    if read.rule == "empty" and image:
        read = Repaired({**labelled.values, TEXT: ""}, repairs=read.repairs)
    return Repaired(read.values, rule=read.rule, reason=read.reason, repairs=(*labelled.repairs, *read.repairs))


def duplicate_key(values: Mapping[str, object]) -> str:
    """The text's key and a digest of the pixels: two rows are the same if both are."""
    seen = images.duplicate_key(values) if values.get(IMAGE) else ""
    return f"{text.duplicate_key(values)}\0{seen}"


def leak_key(values: Mapping[str, object]) -> str:
    """The text's key, and without a text the digest of the pixels: one text under two images would tell the label."""
    return text.duplicate_key(values) or images.duplicate_key(values)


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator
) -> Mapping[str, object] | None:
    """The row with its image and its text changed, each where there is one; None where neither can be."""
    seen = images.augment(values, config, generator) if values.get(IMAGE) else None
    read = text.augment(seen or values, config, generator) if values.get(TEXT) else None
    return read or seen


def slices(values: Mapping[str, object]) -> Mapping[str, bool]:
    """Groups of validation rows that a person would ask about: what is there, and how long the text is."""
    has_image, length = bool(values.get(IMAGE)), len(str(values.get(TEXT) or ""))
    return {
        "image and text": has_image and length > 0,
        "image alone": has_image and length == 0,
        "text alone": not has_image and length > 0,
        "short text (1–20 characters)": 0 < length <= 20,
        "medium text (21–100 characters)": 20 < length <= 100,
        "long text (> 100 characters)": length > 100,
    }
