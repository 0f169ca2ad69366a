"""What a person wants to see of the data nodes, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from noria.artifacts import Artifact
from noria.data.preprocess import unmeasured_schema
from noria.data.rows import SYSTEM_FIELDS, read_batches, read_rows, read_schema
from noria.scenarios.base import Scenario

_NUM_SAMPLES = 5


def measured_table(preprocessed: Artifact, *, measure: Callable[[pa.RecordBatch], pa.RecordBatch]) -> str:
    """Smallest, mean and largest value of each measured column; of a flag, the rows that have it."""
    schema = read_schema(preprocessed.path)
    names = schema.names[len(unmeasured_schema(schema, measure)) :]
    table = pa.Table.from_batches(read_batches(preprocessed.path, columns=names))
    lines = [f"**{table.num_rows:,} rows**", "", "| column | smallest | mean | largest |", "|---|---:|---:|---:|"]
    for name, column in zip(names, table.columns, strict=True):
        if pa.types.is_boolean(column.type):
            lines.append(f"| {name} | | {pc.sum(column).as_py() or 0:,} rows | |")
        else:
            extremes = pc.min_max(column).as_py()
            mean = pc.mean(column).as_py()
            lines.append(f"| {name} | {_number(extremes['min'])} | {_number(mean)} | {_number(extremes['max'])} |")
    return "\n".join(lines)


def arrivals_table(arrivals: Artifact) -> str:
    """What arrived since the data of the live model was read, batch by batch, and what was refused as a whole."""
    facts = arrivals.facts
    said = facts["feedback"]
    assert isinstance(said, Mapping)
    lines = [
        f"**{facts['objects_new']:,} objects**, which the first training reads and judges."
        if facts.get("objects_listed")
        else f"**{facts['objects_new']:,} new objects**; since the data of the live model was read "
        f"{facts['objects']:,}, with **{arrivals.counts['rows']:,} rows** that passed the gate.",
        "",
        "| judged | objects | rows | quarantined | what failed |",
        "|---|---|---:|---:|---|",
    ]
    for batch in json.loads((arrivals.path / "batches.json").read_text(encoding="utf-8")):
        names = [each["name"] for each in batch["objects"]]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        why = "; ".join(batch["reasons"]) or ", ".join(batch["expectations_failed"])
        state = "" if batch["passed"] else "**refused**: "
        lines.append(
            f"| {batch['time']} | {_cell(shown)} | {batch['rows']:,} | {batch['quarantined']:,} | {state}{_cell(why)} |"
        )
    lines += [
        "",
        f"Of the live model's answers {said['right']:,} were called right and {said['wrong']:,} wrong; "
        f"feedback became {said['rows']:,} of these rows.",
    ]
    if facts["refused"]:
        lines += ["", "`sources/intake/refused.yaml` lists what was refused; delete a line to have it tried again."]
    return "\n".join(lines)


def cleaning_table(cleaned: Artifact) -> str:
    """Rows kept and refused by rule, and repairs."""
    rows, facts = cleaned.counts["rows"], cleaned.facts
    if facts["passed_through"]:
        return f"The data passed the quality check: **{rows:,} rows** went through untouched."
    lines = [f"**{rows:,} rows kept**, {cleaned.counts['quarantined']:,} to quarantine", ""]
    lines += [*_table("refused because of", facts["refused"]), "", *_table("repaired", facts["repairs"])]
    return "\n".join([*lines, "", "`noria quarantine list --stage clean` shows what was refused."])


def augmentation_table(augmented: Artifact, *, scenario: Scenario) -> str:
    """Rows added, and a few of them."""
    num_added = augmented.counts["added"]
    if not num_added:
        return f"Augmentation is off (`augment.share: 0`): **{augmented.counts['rows']:,} rows**, none added."
    system = {field.name for field in SYSTEM_FIELDS}
    names = [name for name in scenario.schema.names if name not in system]
    lines = [f"**{num_added:,} rows added** to {augmented.counts['rows'] - num_added:,}", ""]
    lines += ["| parent | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    children = (row for row in read_rows(augmented.path) if row["parent_id"] is not None)
    for row, _ in zip(children, range(_NUM_SAMPLES), strict=False):
        lines.append(f"| `{row['parent_id']}` | " + " | ".join(_cell(row[name]) for name in names) + " |")
    return "\n".join(lines)


def split_table(splits: Artifact) -> str:
    """Rows per side, and the share of each label."""
    counts, labels = splits.counts, splits.facts.get("labels") or {side: {} for side in ("train", "validation")}
    assert isinstance(labels, Mapping)
    total = counts["train"] + counts["validation"]
    names = sorted(labels["train"].keys() | labels["validation"].keys())
    lines = ["| side | rows | share | " + " | ".join(map(_cell, names)) + " |"]
    lines.append("|---|---:|---:|" + "---:|" * len(names))
    for side in ("train", "validation"):
        shares = [f"{_share(labels[side].get(name, 0), counts[side])}" for name in names]
        lines.append(f"| {side} | {counts[side]:,} | {_share(counts[side], total)} | " + " | ".join(shares) + " |")
    lines += ["", f"{counts['augmented']:,} of the training rows are augmented."]
    if isinstance(held_out := splits.facts.get("held_out"), Mapping):
        lines.append("; ".join(f"{name}: {count:,}" for name, count in held_out.items()) + ".")
    if counts["quarantined"]:
        lines.append(f"{counts['quarantined']:,} rows would have leaked into training: `noria quarantine list`.")
    return "\n".join(lines)


def _table(title: str, counts: object) -> list[str]:
    assert isinstance(counts, Mapping)
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [f"| {title} | rows |", "|---|---:|", *(f"| {name} | {count:,} |" for name, count in ordered)]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")[:100]
