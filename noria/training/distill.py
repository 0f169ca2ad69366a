"""A teacher's answers to the rows to fit, computed once (Hinton et al. 2015, arXiv:1503.02531).

Only logits cross over, so a teacher may have any size, any encoder, and several branches: it reads
the rows as they are, by ONNX Runtime, as it would in service. Shapes: N rows to fit, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from noria.artifacts import Artifact
from noria.config import SplitConfig
from noria.errors import TrainingError
from noria.scenarios.base import Scenario

logger = logging.getLogger(__name__)

_BATCH_ROWS = 5_000


def write_answers(
    target: Path,
    teacher: Artifact,
    rows: Iterable[Mapping[str, object]],
    *,
    num_rows: int,
    labels: Sequence[str],
    scenario: Scenario,
    split: SplitConfig,
    holdout_share: float,
) -> None:
    """Write the teacher's logits, float32 (N, C), to a `.npy` file: N in the order of `rows`, C in that of `labels`.

    Raises
    ------
    BundleError
        When the teacher is no bundle, or damaged.
    TrainingError
        When it tells other labels apart, or learned from rows that judge now.
    """
    from noria.evaluation.inference import logits_of, num_cores
    from noria.serving.bundle import open_bundle
    from noria.serving.predictor import Predictor  # ONNX Runtime: no other training needs it

    bundle = open_bundle(teacher.path)
    if bundle.scenario.name != scenario.name:
        raise _unfit(teacher, f"it is a model of `{bundle.scenario.name}`", expected=f"a bundle of `{scenario.name}`")
    if (bundle.split, bundle.holdout_share) != (split, holdout_share):
        theirs = f"split: {bundle.split}, train.holdout_share: {bundle.holdout_share}"
        raise _unfit(teacher, "it may have learned from rows that judge now", expected=theirs)
    theirs_by_name = bundle.scenario.labels(bundle.encoder) if bundle.scenario.labels else ()
    columns = _columns(teacher, theirs_by_name, labels)
    predictor = Predictor(bundle, workers=num_cores())
    answers_NC = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=(num_rows, len(labels)))
    done, remaining = 0, iter(rows)
    while batch := list(islice(remaining, _BATCH_ROWS)):
        answers_NC[done : done + len(batch)] = logits_of(predictor.outputs(batch))[:, columns]
        done += len(batch)
    assert done == num_rows, f"{done} answers to {num_rows} rows"
    answers_NC.flush()
    logger.info("teacher %s answered %d rows", bundle.version, num_rows)


def _columns(teacher: Artifact, theirs: Sequence[str], ours: Sequence[str]) -> list[int]:
    """Where each of our labels stands among the teacher's."""
    if not ours:
        raise _unfit(teacher, "this scenario has no labels to compare", expected="`train.distill.teacher: none`")
    if differing := sorted(set(theirs) ^ set(ours)):
        raise _unfit(
            teacher,
            f"only one of the two tells {', '.join(differing)}",
            expected=f"the labels of the training rows: {', '.join(ours)}",
        )
    return [theirs.index(label) for label in ours]


def _unfit(teacher: Artifact, why: str, *, expected: str) -> TrainingError:
    return TrainingError(
        f"this teacher can't teach: {why}",
        where=str(teacher.path),
        expected=expected,
        next_step="name another `train.distill.teacher`, or `none`",
    )
