"""The pass branch: rows added to the training side, each pointing at its parent.

Only rows whose group is on the training side get children (`noria.data.sides` decides that from the
row alone, before the split), so that none is made for nothing; the split checks it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from noria.artifacts import Artifact, Ledger, read_artifact, write_artifact
from noria.config import AugmentConfig, SplitConfig
from noria.data.preprocess import unmeasured_schema
from noria.data.rows import SYSTEM_FIELDS, ShardWriter, content_id, link_shards, read_batches, read_schema
from noria.data.sides import check_group_by, group_of, in_validation
from noria.data.verdict import read_verdict, verdict_line
from noria.errors import GateRefused
from noria.events import progress
from noria.scenarios.base import Scenario

_SYSTEM = tuple(field.name for field in SYSTEM_FIELDS)


def augment_rows(
    cleaned: Artifact,
    verdict: Artifact,
    target: Path,
    *,
    scenario: Scenario,
    config: AugmentConfig,
    split: SplitConfig,
    seed: int,
) -> Artifact:
    """The rows of `cleaned`, and `config.share` children per row of the training side behind each batch.

    A child depends on its parent's id and `seed` alone. A share of 2.5 means two children, and a third
    for half of the rows. With share 0 the shards go on as hard links.

    Raises
    ------
    GateRefused
        When `verdict`, the last one on `cleaned`, is fail.
    ConfigError
        When `split.group_by` is no column of the data.
    """
    if not verdict.facts["passed"]:
        raise refusal(cleaned, verdict)
    num_rows, num_added = cleaned.counts["rows"], 0
    with write_artifact(target, kind="augmented", parents=(cleaned, verdict)) as draft:
        if config.share == 0:
            link_shards(cleaned.path, draft.path)
        else:
            num_added = _augment(
                cleaned.path, draft.path, num_rows, scenario=scenario, config=config, split=split, seed=seed
            )
        draft.ledger = Ledger(rows_in=num_rows, rows_out=num_rows + num_added, added=num_added)
        draft.counts = {"rows": num_rows + num_added, "added": num_added}
    return read_artifact(target, verify=False)


def _augment(
    source: Path,
    target: Path,
    num_rows: int,
    *,
    scenario: Scenario,
    config: AugmentConfig,
    split: SplitConfig,
    seed: int,
) -> int:
    """Write originals and children; the number of children."""
    schema = unmeasured_schema(read_schema(source), scenario.measure)
    check_group_by(split, columns=schema.names)
    num_added = 0
    with ShardWriter(target, read_schema(source)) as shards, progress("augment", total=num_rows) as shown:
        for batch in read_batches(source):
            shards.write(batch)
            parents = [
                row for row in batch.select(schema.names).to_pylist() if not in_validation(group_of(row, split), split)
            ]
            children = [
                child for row in parents for child in _children(row, scenario=scenario, config=config, seed=seed)
            ]
            if children:
                shards.write(scenario.measure(pa.RecordBatch.from_pylist(children, schema=schema)))
            num_added += len(children)
            shown.advance(batch.num_rows)
    return num_added


def _children(
    row: Mapping[str, object], *, scenario: Scenario, config: AugmentConfig, seed: int
) -> Iterator[dict[str, object]]:
    """The augmented rows of one original."""
    digest = hashlib.blake2b(f"{seed}\0{row['id']}".encode(), digest_size=8).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "big"))
    content = {name: value for name, value in row.items() if name not in _SYSTEM}
    for number in range(int(config.share + generator.random())):
        values = scenario.augment(content, config, generator)
        if values is not None:
            identity = content_id({**values, "parent_id": row["id"], "number": number})
            yield {**values, "id": identity, "origin": row["origin"], "parent_id": row["id"]}


def refusal(cleaned: Artifact, verdict: Artifact) -> GateRefused:
    """What is said when the last verdict is fail: by `augment`, and by the flow that stops before it."""
    num_refused = cleaned.counts["quarantined"]
    lost = (
        f"; cleaning sent {num_refused:,} of {num_refused + cleaned.counts['rows']:,} rows to quarantine, for example"
    )
    return GateRefused(
        f"the data failed the quality check, and cleaning did not mend it: {verdict_line(read_verdict(verdict.path))}"
        + (f"{lost} {cleaned.facts['example']}" if num_refused else ""),
        where=str(verdict.path),
        expected="every expectation of the suite met",
        next_step="open data_docs/ there and `noria quarantine list`, then mend the source, the bounds in `clean:` "
        "or the expectations",
    )
