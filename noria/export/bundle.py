"""Writes the bundle: the graph that won, what surrounds it, and what is known about it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import Config
from noria.evaluation.report import Evaluation
from noria.export.candidates import Candidate
from noria.export.cards import Origin, data_card, model_card
from noria.scenarios.base import Encoder, Row, Scenario
from noria.serving.bundle import CARD, CONFIG, DATA_CARD, ENCODER, GOLDEN, KIND, MODEL, Bundle
from noria.serving.golden import golden_answers
from noria.serving.predictor import Predictor
from noria.serving.session import device_of, open_session

_GOLDEN_PER_LABEL, _MOST_GOLDEN = 3, 50
_MODEL_SECTIONS = {"name", "scenario", "seed", "clean", "augment", "split", "tokenizer", "model", "train"}


def write_bundle(
    path: Path,
    chosen: Candidate,
    *,
    reason: str,
    evaluation: Evaluation,
    encoder: Encoder,
    scenario: Scenario,
    config: Config,
    rows: Sequence[Row],
    origin: Origin,
    resources: Mapping[str, object],
    parents: tuple[Artifact, ...],
) -> Artifact:
    """Write `models/bundle/`. Its digest covers the model's files; what was measured is in the facts.

    Equal models thus keep their version, however fast the machine was that day. `resources` are what
    training took: time, memory, energy.
    """
    assert chosen.path is not None
    with write_artifact(path, kind=KIND, parents=parents) as draft:
        shutil.copyfile(chosen.path, draft.path / MODEL)
        encoder.save(draft.path / ENCODER)
        settings = config.model_dump(mode="json", include=_MODEL_SECTIONS)
        (draft.path / CONFIG).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written = Artifact(KIND, draft.path, digest="")
        predictor = Predictor(
            Bundle(written, scenario, encoder, config.split, config.train.holdout_share),
            device=device_of(open_session(draft.path / MODEL, device=config.optimize.device)),
        )
        answers = golden_answers(predictor, _golden_requests(rows, scenario))
        (draft.path / GOLDEN).write_text(json.dumps(answers, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        card = model_card(evaluation, chosen, config=config, scenario=scenario, origin=origin)
        (draft.path / CARD).write_text(card, encoding="utf-8")
        data = data_card(origin.splits, config=config, scenario=scenario)
        (draft.path / DATA_CARD).write_text(data, encoding="utf-8")
        draft.counts["validation_rows"] = evaluation.rows
        draft.facts |= {
            "name": config.name,
            "scenario": config.scenario,
            "candidate": chosen.name,
            "reason": reason,
            **({"compressed": chosen.compressed} if chosen.compressed else {}),
            **({"device": predictor.device} if predictor.device != "cpu" else {}),
            "opset": config.optimize.opset,
            "metrics": {name: round(estimate.value, 6) for name, estimate in evaluation.metrics.items()},
            "latency_ms": {f"rows_{rows}": latency.p50_ms for rows, latency in chosen.latency.items()},
            "size_bytes": chosen.size_bytes,
            "data_digest": origin.splits.digest,
            "checkpoint_digest": origin.checkpoint_digest,
            "num_training_rows": origin.num_training_rows,
            "git_commit": origin.git_commit,
            "training": dict(resources),
        }
    return read_artifact(path)


def git_commit(directory: Path) -> str | None:
    """The commit that `directory` is at, or None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _golden_requests(rows: Sequence[Row], scenario: Scenario) -> list[Mapping[str, object]]:
    """The scenario's example and the first validation rows of each label."""
    requests: list[Mapping[str, object]] = [scenario.example]
    taken: dict[object, int] = {}
    for row in rows:
        label = row[scenario.target]
        taken[label] = taken.get(label, 0) + 1
        if taken[label] <= _GOLDEN_PER_LABEL:
            requests.append(scenario.as_request(row))
    return requests[:_MOST_GOLDEN]
