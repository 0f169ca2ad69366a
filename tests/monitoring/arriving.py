"""Rows that arrive for the tiny text model: typed and measured by the code that does it for real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.data.preprocess import preprocess_rows
from noria.data.rows import ShardWriter, content_id, link_shards, row_schema
from noria.workspace import Workspace

GOOD, BAD, NEUTRAL = "好棒快赞优", "差慢坏烂破", "的书酒店物流服务房间质量东西"


def rows_like_known(num_rows: int, *, seed: int, length: tuple[int, int] = (4, 30)) -> list[dict[str, object]]:
    """Texts as the tiny model was trained on, but for their length."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(num_rows):
        label = str(generator.choice(["neg", "pos"]))
        mood = GOOD if label == "pos" else BAD
        letters = (mood if generator.random() < 0.4 else NEUTRAL for _ in range(int(generator.integers(*length))))
        rows.append({"text": "".join(str(generator.choice(list(of))) for of in letters), "label": label})
    return rows


def arrive(
    workspace: Workspace,
    rows: Sequence[Mapping[str, object]],
    *,
    origin: str = "new.csv",
    objects: int = 1,
    refused: int = 0,
    right: int = 0,
    wrong: int = 0,
) -> Artifact:
    """The artifact "arrivals" of a workspace."""
    scenario, scratch = workspace.scenario, workspace.scratch / "arriving"
    schema = row_schema(scenario.schema)
    with write_artifact(scratch / "raw", kind="raw") as draft, ShardWriter(draft.path, schema) as shards:
        shards.write_rows(
            [
                {"id": content_id(row), "origin": f"{origin}:{number}", "parent_id": None, **row}
                for number, row in enumerate(rows)
            ]
        )
    raw = read_artifact(scratch / "raw")
    measured = preprocess_rows(raw, scratch / "measured", measure=scenario.measure, config=workspace.config.preprocess)
    with write_artifact(workspace.arrivals, kind="arrivals", parents=(measured,)) as draft:
        link_shards(measured.path, draft.path / "rows")
        draft.facts = {
            "objects_new": objects,
            "objects_refused": refused,
            "rows": len(rows),
            "feedback": {"rows": 0, "refused": {}, "right": right, "wrong": wrong},
        }
    return read_artifact(workspace.arrivals)
