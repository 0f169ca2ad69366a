"""Golden requests: what a bundle answered when it was made, so that it can prove itself elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from noria.errors import BundleError
from noria.scenarios.base import Row
from noria.serving.predictor import VERSION_FIELD, Predictor

TOLERANCE = 1e-3
"""Of numbers in an answer: CPUs with other vector instructions round int8 products differently."""


def golden_answers(predictor: Predictor, requests: Sequence[Row]) -> list[Mapping[str, object]]:
    """Each request with its answer; asked one by one, since an int8 answer depends on its batch."""
    return [{"request": dict(request), "response": _ask(predictor, request)} for request in requests]


def prove(predictor: Predictor) -> int:
    """Ask the bundle's own golden requests again; returns how many there are.

    Raises
    ------
    BundleError
        Naming the first answer that differs.
    """
    records = json.loads(predictor.bundle.golden.read_text(encoding="utf-8"))
    for record in records:
        found = _ask(predictor, record["request"])
        if not _equal(found, record["response"]):
            raise BundleError(
                "the model does not answer as it did when it was made",
                where=f"{predictor.bundle.golden}: {json.dumps(record['request'], ensure_ascii=False)[:120]}",
                expected=f"{record['response']}, found {found}",
                next_step="the live model is untouched; `noria run` builds the bundle again on this kind of machine",
            )
    return len(records)


def _ask(predictor: Predictor, request: Row) -> dict[str, object]:
    scenario = predictor.bundle.scenario
    (response,) = predictor.answer([scenario.row_of(scenario.request.model_validate(dict(request)))])
    return {name: value for name, value in response.items() if name != VERSION_FIELD}


def _equal(found: object, expected: object) -> bool:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(_equal(found[key], expected[key]) for key in found)
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_equal, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE)
    return found == expected
