"""Writes the bundle: the graph that won, what surrounds it, and what is known about it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import Config
from noria.evaluation.report import Evaluation
from noria.export.candidates import Candidate
from noria.scenarios.base import Encoder, Row, Scenario
from noria.serving.bundle import CARD, CONFIG, ENCODER, GOLDEN, KIND, MODEL, Bundle
from noria.serving.golden import golden_answers
from noria.serving.predictor import Predictor

_GOLDEN_PER_LABEL, _MOST_GOLDEN = 3, 50
_MODEL_SECTIONS = {"name", "scenario", "seed", "clean", "augment", "split", "tokenizer", "model", "train"}


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from: what can't be read off its files.

    Attributes
    ----------
    data_digest, checkpoint_digest:
        Digests of the splits and of the checkpoint.
    num_training_rows:
        Rows it was trained on.
    git_commit:
        Commit of the workspace, with "-dirty" where it had changes; None outside git.
    """

    data_digest: str
    checkpoint_digest: str
    num_training_rows: int
    git_commit: str | None


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
    parents: tuple[Artifact, ...],
) -> Artifact:
    """Write `models/bundle/`. Its digest covers the model's files; what was measured is in the facts.

    Equal models thus keep their version, however fast the machine was that day.
    """
    assert chosen.path is not None
    with write_artifact(path, kind=KIND, parents=parents) as draft:
        shutil.copyfile(chosen.path, draft.path / MODEL)
        encoder.save(draft.path / ENCODER)
        settings = config.model_dump(mode="json", include=_MODEL_SECTIONS)
        (draft.path / CONFIG).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written = Artifact(KIND, draft.path, digest="")
        predictor = Predictor(Bundle(written, scenario, encoder, config.split, config.train.holdout_share))
        answers = golden_answers(predictor, _golden_requests(rows, scenario))
        (draft.path / GOLDEN).write_text(json.dumps(answers, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        card = model_card(evaluation, chosen, config=config, scenario=scenario, origin=origin)
        (draft.path / CARD).write_text(card, encoding="utf-8")
        draft.counts["validation_rows"] = evaluation.rows
        draft.facts |= {
            "name": config.name,
            "scenario": config.scenario,
            "candidate": chosen.name,
            "reason": reason,
            "opset": config.optimize.opset,
            "metrics": {name: round(estimate.value, 6) for name, estimate in evaluation.metrics.items()},
            "latency_ms": {f"rows_{rows}": latency.p50_ms for rows, latency in chosen.latency.items()},
            "size_bytes": chosen.size_bytes,
            "data_digest": origin.data_digest,
            "checkpoint_digest": origin.checkpoint_digest,
            "num_training_rows": origin.num_training_rows,
            "git_commit": origin.git_commit,
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


def model_card(evaluation: Evaluation, chosen: Candidate, *, config: Config, scenario: Scenario, origin: Origin) -> str:
    """MODEL_CARD.md (Mitchell et al. 2019, arXiv:1810.03993), of facts alone."""
    lines = [
        f"# {config.name}",
        "",
        f"A `{scenario.name}` model, trained by Noria on {origin.num_training_rows:,} rows.",
        "",
        "## Quality",
        "",
        f"{evaluation.rows:,} validation rows that no model of this name was trained on, answered by the graph in this "
        f"bundle ({chosen.name}, ONNX op set {config.optimize.opset}).",
        "",
        f"| metric | value | {config.evaluate.confidence:.0%} interval |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {e.value:.4f} | {e.low:.4f} to {e.high:.4f} |" for name, e in evaluation.metrics.items()]
    name = next(iter(evaluation.metrics))
    lines += ["", f"| slice | rows | {name} | interval |", "|---|---|---|---|"]
    lines += [
        f"| {part.name} | {part.rows:,} | {e.value:.4f} | {e.low:.4f} to {e.high:.4f} |"
        for part in evaluation.slices
        for e in (part.estimate,)
    ]
    lines += _card_end(config, scenario, origin)
    return "\n".join(lines) + "\n"


def _card_end(config: Config, scenario: Scenario, origin: Origin) -> list[str]:
    fields = ", ".join(f"`{name}`" for name in scenario.request.model_fields)
    answers = ", ".join(f"`{name}`" for name in scenario.response.model_fields)
    example = json.dumps(dict(scenario.example), ensure_ascii=False)
    return [
        "",
        "## Use",
        "",
        f"Takes {fields}; gives {answers}. For example `{example}`; more in `{GOLDEN}`, with the answers.",
        "Served by ONNX Runtime alone: `noria serve`, `noria predict`.",
        "",
        "## Limits",
        "",
        "Judged on rows like those it was trained on, and on no others. Slices with few rows have wide intervals.",
        "",
        "## Lineage",
        "",
        f"- data: `{origin.data_digest}`",
        f"- checkpoint: `{origin.checkpoint_digest}`",
        f"- settings: `{CONFIG}`; measurements and git commit: `manifest.json`",
    ]


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
