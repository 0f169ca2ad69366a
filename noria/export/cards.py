"""The cards of a bundle: what is known of its model and of its data, but for what depends on the clock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from noria.artifacts import Ancestor, Artifact, Ledger
from noria.config import Config
from noria.evaluation.markdown import cell
from noria.evaluation.report import Evaluation
from noria.export.candidates import Candidate
from noria.scenarios.base import Scenario
from noria.serving.bundle import CONFIG, DATA_CARD, GOLDEN

_STAGES = {
    "raw": "ingest",
    "preprocessed": "preprocess",
    "cleaned": "clean",
    "augmented": "augment",
    "splits": "split",
}
"""Kind of an artifact with rows -> the stage that wrote it, in the order of the flowchart."""


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from: what can't be read off its files.

    Attributes
    ----------
    splits:
        The data that trained and judged it.
    checkpoint_digest:
        Of what was exported.
    num_training_rows:
        Rows it was trained on.
    git_commit:
        Commit of the workspace, with "-dirty" where it had changes; None outside git.
    """

    splits: Artifact
    checkpoint_digest: str
    num_training_rows: int
    git_commit: str | None


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
        *([f"Smaller than the model that was trained: {chosen.compressed}.", ""] if chosen.compressed else []),
        f"| metric | value | {config.evaluate.confidence:.0%} interval |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {e.value:.4f} | {e.low:.4f} to {e.high:.4f} |" for name, e in evaluation.metrics.items()]
    name = next(iter(evaluation.metrics))
    lines += ["", f"| slice | rows | {name} | interval |", "|---|---|---|---|"]
    lines += [
        f"| {cell(part.name)} | {part.rows:,} | {e.value:.4f} | {e.low:.4f} to {e.high:.4f} |"
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
        f"- data ({DATA_CARD}): `{origin.splits.digest}`",
        f"- checkpoint: `{origin.checkpoint_digest}`",
        f"- settings: `{CONFIG}`; measurements and git commit: `manifest.json`",
    ]


def data_card(splits: Artifact, *, config: Config, scenario: Scenario) -> str:
    """DATA_CARD.md (after Pushkarna et al. 2022, arXiv:2204.01075): where the rows came from and where they went."""
    ancestors = {**splits.lineage, splits.kind: Ancestor(splits.digest, splits.counts, splits.ledger, splits.facts)}
    raw = ancestors.get("raw")
    facts = raw.facts if raw else {}
    rows = ["| stage | rows in | added | in quarantine | rows out |", "|---|---:|---:|---:|---:|"]
    rows += [
        _ledger_row(stage, ancestors[kind].ledger)
        for kind, stage in _STAGES.items()
        if kind in ancestors and ancestors[kind].ledger
    ]
    lines = [
        f"# Data of {config.name}",
        "",
        f"- scenario: `{scenario.name}`; columns: {', '.join(f'`{name}`' for name in scenario.schema.names)}",
        f"- source: `{facts.get('source', 'unknown')}`",
        f"- licence: {facts.get('licence') or 'not stated (`source.licence` in params.yaml states it)'}",
        f"- digest: `{splits.digest}`",
        "",
        "## Where every row went",
        "",
        *rows,
        *_refused(ancestors),
        *_verdict(ancestors.get("verdict")),
        *_sides(splits, config),
    ]
    return "\n".join(lines) + "\n"


def _ledger_row(stage: str, ledger: Ledger | None) -> str:
    assert ledger is not None
    numbers = (ledger.rows_in, ledger.added, ledger.quarantined, ledger.rows_out)
    return f"| {stage} | {' | '.join(f'{number:,}' for number in numbers)} |"


def _refused(ancestors: Mapping[str, Ancestor]) -> Iterator[str]:
    """Quarantined rows by the rule that they broke."""
    by_rule = [
        f"| {stage} | `{rule}` | {number:,} |"
        for kind, stage in _STAGES.items()
        if kind in ancestors and isinstance(refused := ancestors[kind].facts.get("refused"), Mapping)
        for rule, number in refused.items()
    ]
    if by_rule:
        yield from ("", "| stage | rule | rows in quarantine |", "|---|---|---:|", *by_rule)


def _verdict(verdict: Ancestor | None) -> Iterator[str]:
    """The gate's last word."""
    if verdict is not None:
        failed = verdict.facts.get("failed")
        told = f"failed: {', '.join(map(str, failed))}" if isinstance(failed, list) and failed else "passed"
        yield from ("", f"The quality gate, on {verdict.counts.get('rows', 0):,} rows: {told}.")


def _sides(splits: Artifact, config: Config) -> Iterator[str]:
    """Rows that trained and that judged; by label where answers are classes."""
    group = f"`{config.split.group_by}`" if config.split.group_by else "near-duplicates"
    yield from ("", "## Split", "", f"Rows of one group ({group}) are on one side.", "")
    labels = splits.facts.get("labels")
    if not isinstance(labels, Mapping):
        yield from (f"- {side}: {splits.counts.get(side, 0):,} rows" for side in ("train", "validation"))
        return
    names = sorted({label for counts in labels.values() for label in counts})
    yield from ("| side | " + " | ".join(map(cell, names)) + " |", "|---" + "|---:" * len(names) + "|")
    yield from (
        f"| {side} | " + " | ".join(f"{counts.get(label, 0):,}" for label in names) + " |"
        for side, counts in labels.items()
    )
