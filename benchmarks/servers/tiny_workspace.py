"""A workspace with a model that is made in seconds, to try the benchmark with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noria.artifacts import read_artifact, write_artifact
from noria.data.rows import ShardWriter, row_schema
from noria.training.train import train_model
from noria.workspace import Workspace
from tasks.optimize import optimize

_PARAMS = """\
name: tiny
scenario: text-classification
source: {path: unused}
tokenizer: {vocabulary_size: 200, max_tokens: 64}
model: {layers: 1, dim: 16, heads: 2, feed_forward_dim: 32, bigram_buckets: 64}
train: {epochs: 1, precision: fp32, threads: 1, pretrain: {epochs: 0}}
optimize: {latency_repeats: 5, max_quality_drop: 1.0, max_slice_drop: 1.0}
"""
_LETTERS = {"pos": "好棒快赞优的书酒店", "neg": "差慢坏烂破的书酒店"}


def make_tiny_workspace(root: Path) -> Workspace:
    """Splits, a checkpoint and a bundle."""
    (root / "params.yaml").write_text(_PARAMS, encoding="utf-8")
    workspace = Workspace.at(root)
    generator = np.random.default_rng(0)
    with write_artifact(workspace.splits, kind="splits") as draft:
        for side, num_rows in (("train", 200), ("validation", 100)):
            with ShardWriter(draft.path / side, row_schema(workspace.scenario.schema)) as writer:
                writer.write_rows([_row(f"{side}{i}", generator) for i in range(num_rows)])
            draft.counts[side] = num_rows
    train_model(
        read_artifact(workspace.splits),
        workspace.checkpoint,
        scenario=workspace.scenario,
        config=workspace.config,
        scratch=workspace.scratch / "train",
    )
    optimize.fn(workspace)
    return workspace


def _row(name: str, generator: np.random.Generator) -> dict[str, object]:
    label = str(generator.choice(["neg", "pos"]))
    text = "".join(generator.choice(list(_LETTERS[label]), size=int(generator.integers(4, 120))))
    return {"id": name, "origin": "tiny:1", "parent_id": None, "text": text, "label": label}
