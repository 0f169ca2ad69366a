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
LEAST_AGREEMENT = 0.8
"""Of texts that are written token by token, from their beginnings on, on average: where two tokens are nearly as likely
the same rounding decides, and all that follows. To write in int8 in place of fp32, a greater change than that of a CPU,
left 0.94 to 0.98 of the tests' generators; weights as far off as they are large left 0.12 and 0.40."""


def golden_answers(predictor: Predictor, requests: Sequence[Row]) -> list[Mapping[str, object]]:
    """Each request with its answer; asked one by one, since an int8 answer depends on its batch."""
    return [{"request": dict(request), "response": _ask(predictor, request)} for request in requests]


def prove(predictor: Predictor) -> int:
    """Ask the bundle's own golden requests again; returns how many there are.

    Every answer must be the same within `TOLERANCE`; texts that are written token by token must agree by
    `LEAST_AGREEMENT`.

    Raises
    ------
    BundleError
        Naming the answer that agrees least.
    """
    records = json.loads(predictor.bundle.golden.read_text(encoding="utf-8"))
    written = predictor.bundle.scenario.written
    answers = [_ask(predictor, record["request"]) for record in records]
    shares = [
        _agreement(found, record["response"], written=written) for found, record in zip(answers, records, strict=True)
    ]
    if sum(shares) < (LEAST_AGREEMENT if written else 1.0) * len(records):
        worst = shares.index(min(shares))
        raise BundleError(
            "the model does not answer as it did when it was made",
            where=f"{predictor.bundle.golden}: {json.dumps(records[worst]['request'], ensure_ascii=False)[:120]}",
            expected=f"{records[worst]['response']}, found {answers[worst]}",
            next_step="the live model is untouched; `noria run` builds the bundle again on this kind of machine",
        )
    return len(records)


def _ask(predictor: Predictor, request: Row) -> dict[str, object]:
    scenario = predictor.bundle.scenario
    (response,) = predictor.answer([scenario.row_of(scenario.request.model_validate(dict(request)))])
    return {name: value for name, value in response.items() if name != VERSION_FIELD}


def _agreement(found: Mapping[str, object], expected: Mapping[str, object], *, written: str) -> float:
    """1 of equal answers; of texts that differ, the share of their letters that they begin with in common."""
    if _equal(found, expected):
        return 1.0
    said, expected_text = (str(answer.get(written, "")) for answer in (found, expected))
    if said == expected_text:
        return 0.0
    pairs = list(zip(said, expected_text, strict=False))
    num_common = next((place for place, (one, other) in enumerate(pairs) if one != other), len(pairs))
    return num_common / max(len(said), len(expected_text))


def _equal(found: object, expected: object) -> bool:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(_equal(found[key], expected[key]) for key in found)
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_equal, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE)
    return found == expected
