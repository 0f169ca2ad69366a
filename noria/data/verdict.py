"""The verdict of the gate: passed or not, and for every expectation what was found and why it matters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

FILE = "verdict.json"
_SHOWN_CHARS = 60


@dataclass(frozen=True)
class Judgement:
    """What became of one expectation.

    Attributes
    ----------
    name:
        The expectation and its column; unique in a verdict.
    kind:
        `rows`: judged row by row. `profile`: judged on all rows together.
    column:
        The column, or the number of the profile.
    why:
        The data owner's reason for the expectation.
    where:
        Its line in the suite.
    passed:
        Whether it holds.
    limit:
        What was expected, for people.
    observed:
        The number of the profile, or None for a row expectation.
    judged:
        Rows that could be judged (nulls are left out, except where they are the point).
    unexpected:
        Rows that break it; for a profile number, those behind it where they are known.
    mostly:
        The share of judged rows that must hold.
    failing_ids:
        File of all failing ids, relative to the verdict; None when there are none.
    samples:
        The first failing rows: `id`, `origin`, the scenario's columns and the judged one.
    """

    name: str
    kind: Literal["rows", "profile"]
    column: str
    why: str
    where: str
    passed: bool
    limit: str
    observed: float | None
    judged: int
    unexpected: int
    mostly: float = 1.0
    failing_ids: str | None = None
    samples: tuple[Mapping[str, object], ...] = ()

    @property
    def unexpected_share(self) -> float:
        """Share of the judged rows that break it."""
        return self.unexpected / self.judged if self.judged else 0.0


@dataclass(frozen=True)
class Verdict:
    """The gate's word on one set of rows."""

    rows: int
    judgements: tuple[Judgement, ...]

    @property
    def failed(self) -> tuple[Judgement, ...]:
        """What does not hold, worst first."""
        failed = [judgement for judgement in self.judgements if not judgement.passed]
        return tuple(sorted(failed, key=lambda judgement: -judgement.unexpected_share))

    @property
    def passed(self) -> bool:
        """Whether every expectation holds."""
        return not self.failed


def write_verdict(directory: Path, verdict: Verdict) -> None:
    """Write `verdict.json`."""
    values = {
        "passed": verdict.passed,
        "rows": verdict.rows,
        "num_failed": len(verdict.failed),
        "expectations": [{**asdict(j), "unexpected_share": j.unexpected_share} for j in verdict.judgements],
    }
    text = json.dumps(values, ensure_ascii=False, indent=2, default=str)
    (directory / FILE).write_text(text + "\n", encoding="utf-8")


def read_verdict(directory: Path) -> Verdict:
    """Read `verdict.json`."""
    values = json.loads((directory / FILE).read_text(encoding="utf-8"))
    fields = Judgement.__dataclass_fields__
    judgements = (
        Judgement(**{name: value for name, value in one.items() if name in fields}) for one in values["expectations"]
    )
    return Verdict(values["rows"], tuple(judgements))


def verdict_line(verdict: Verdict) -> str:
    """The verdict in one line."""
    if verdict.passed:
        return f"{verdict.rows:,} rows: passed all {len(verdict.judgements)} expectations"
    failed = "; ".join(f"{j.column} ({j.limit}): {_found(j)}" for j in verdict.failed)
    return f"{verdict.rows:,} rows: failed {len(verdict.failed)} of {len(verdict.judgements)} expectations: {failed}"


def verdict_markdown(verdict: Verdict) -> str:
    """The verdict for people: what failed, worst first, with rows to look at, then what holds."""
    word = "passes" if verdict.passed else f"**fails** {len(verdict.failed)} of {len(verdict.judgements)} expectations"
    lines = [f"{verdict.rows:,} rows: the data {word}.", ""]
    if verdict.failed:
        lines += ["| failed | expected | found | why it matters |", "|---|---|---|---|"]
        lines += [f"| `{_cell(j.column)}` | {_cell(j.limit)} | {_found(j)} | {_cell(j.why)} |" for j in verdict.failed]
        lines += ["", "| example of | value | origin | row |", "|---|---|---|---|"]
        lines += [_sample(j, sample) for j in verdict.failed for sample in j.samples]
        lines.append("")
    held = [j for j in verdict.judgements if j.passed]
    if held:
        lines += ["| holds | expected | found |", "|---|---|---|"]
        lines += [f"| `{_cell(j.column)}` | {_cell(j.limit)} | {_found(j)} |" for j in held]
    return "\n".join(lines)


def _found(judgement: Judgement) -> str:
    if judgement.observed is None:
        rows = f"{judgement.unexpected:,} of {judgement.judged:,} rows ({judgement.unexpected_share:.2%}) do not"
        return rows if judgement.unexpected else "every row does"
    value = judgement.observed
    return f"{value:,}" if float(value).is_integer() else f"{value:.4g}"


def _sample(judgement: Judgement, sample: Mapping[str, object]) -> str:
    values = {name: value for name, value in sample.items() if name not in ("id", "origin")}
    judged = values.pop(judgement.column) if judgement.column in values else ""
    rest = " · ".join(_cell(_shortened(str(value))) for value in values.values())
    return (
        f"| `{_cell(judgement.column)}` | {_cell(_shortened(str(judged)))} | {_cell(str(sample['origin']))} | {rest} |"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ").replace("<", "&lt;")
