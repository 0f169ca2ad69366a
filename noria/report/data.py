"""Sections on rows: where they went, what the gate said, and what was refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from noria.artifacts import Ledger, read_artifact
from noria.data.verdict import FILE, Judgement, read_verdict, verdict_line
from noria.errors import ArtifactError
from noria.report.drawings import draw_rows
from noria.report.parts import Section, Table, table
from noria.workspace import Workspace

_MOST_SAMPLES = 3
_STAGES_THAT_REFUSE = ("ingest", "preprocess", "clean", "split")


def ledger_section(workspace: Workspace) -> Section | None:
    """Where every row went, drawn and as a table."""
    ledgers = dict(read_ledgers(workspace))
    if not ledgers:
        return None
    rows = [
        (kind, *(f"{count:,}" for count in (ledger.rows_in, ledger.added, ledger.rows_out, ledger.quarantined)))
        for kind, ledger in ledgers.items()
    ]
    first, last = next(iter(ledgers.values())), list(ledgers.values())[-1]
    refused = sum(ledger.quarantined for ledger in ledgers.values())
    lead = f"{first.rows_in:,} rows came in, {last.rows_out:,} were used, {refused:,} lie in quarantine; none was lost."
    return Section(
        "Rows", lead, (draw_rows(ledgers), table("made | in# | added# | out# | quarantined#", rows)), stage="ingest"
    )


def read_ledgers(workspace: Workspace) -> Iterator[tuple[str, Ledger]]:
    """Where the rows of each kind of data went, in the order of the flowchart; of what is there."""
    for path in (workspace.raw, workspace.preprocessed, workspace.cleaned, workspace.augmented, workspace.splits):
        try:
            artifact = read_artifact(path, verify=False)
        except ArtifactError:
            continue  # not made yet
        if artifact.ledger is not None:
            yield artifact.kind, artifact.ledger


def quality_sections(workspace: Workspace) -> Iterator[Section]:
    """What the gate said of the data, and again of the cleaned data."""
    for stage, title in (("check", "Quality check"), ("recheck", "Quality check, again")):
        directory = workspace.quality(stage)
        if not (directory / FILE).exists():
            continue
        verdict = read_verdict(directory)
        parts: list[Table] = []
        if verdict.failed:
            rows = [(j.column, j.limit, _found(j), j.why) for j in verdict.failed]
            parts.append(table("column | expected | found | why it matters", rows, caption="What does not hold"))
            parts.append(_samples(verdict.failed))
        held = [(j.column, j.limit, _found(j)) for j in verdict.judgements if j.passed]
        if held:
            parts.append(table("column | expected | found", held, caption="What holds"))
        yield Section(title, f"{verdict_line(verdict)}.", tuple(parts), stage=stage)


def _found(judgement: Judgement) -> str:
    if judgement.observed is not None:
        return f"{judgement.observed:,.4g}"
    if not judgement.unexpected:
        return "every row does"
    return f"{judgement.unexpected:,} of {judgement.judged:,} rows ({judgement.unexpected_share:.2%}) do not"


def _samples(failed: tuple[Judgement, ...]) -> Table:
    rows = [
        (j.column, str(sample.get("origin", "")), _row(sample)) for j in failed for sample in j.samples[:_MOST_SAMPLES]
    ]
    return table("breaks | origin | row", rows, caption="Rows to look at")


def _row(sample: Mapping[str, object]) -> str:
    return " · ".join(str(value)[:200] for name, value in sample.items() if name not in ("id", "origin"))


def quarantine_section(workspace: Workspace) -> Section | None:
    """How many rows each rule refused, by stage."""
    rows = []
    for stage in _STAGES_THAT_REFUSE:
        try:
            counts = dict(read_artifact(workspace.quarantine(stage), verify=False).counts)
        except ArtifactError:
            continue
        counts.pop("rows", None)
        rows += [(stage, rule, f"{count:,}") for rule, count in sorted(counts.items(), key=lambda item: -item[1])]
    if not rows:
        return None
    lead = "`noria quarantine list` shows them, and `noria quarantine replay` tries them again when rules have changed."
    return Section("Quarantine", lead, (table("stage | rule | rows#", rows),), stage="clean")
