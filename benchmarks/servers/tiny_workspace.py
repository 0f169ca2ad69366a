"""A workspace with a model that trains in two seconds: to try a benchmark with, and what tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.data.rows import ShardWriter, row_schema
from noria.training.train import train_model
from noria.workspace import Workspace
from tasks.optimize import optimize

PARAMS = """\
name: tiny
scenario: text-classification
source: {path: unused}
tokenizer: {vocabulary_size: 200, max_tokens: 32}
model: {layers: 1, dim: 16, heads: 2, feed_forward_dim: 32, bigram_buckets: 64}
train: {epochs: 2, precision: fp32, threads: 1, pretrain: {epochs: 1}}
evaluate: {resamples: 200, min_slice_rows: 20}
optimize: {latency_repeats: 10, max_quality_drop: 0.05, max_slice_drop: 0.2}
"""
_GOOD, _BAD, _NEUTRAL = "好棒快赞优", "差慢坏烂破", "的书酒店物流服务房间质量东西"


def make_tiny_workspace(root: Path) -> Workspace:
    """Splits, a checkpoint and a bundle."""
    workspace = make_splits(root, params=PARAMS)
    train(workspace)
    optimize.fn(workspace)
    return workspace


def make_splits(root: Path, *, params: str) -> Workspace:
    """`params.yaml` and splits: 300 rows to train on, 120 to judge by, separable but not by one character."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(params, encoding="utf-8")
    workspace = Workspace.at(root)
    generator = np.random.default_rng(0)
    with write_artifact(workspace.splits, kind="splits") as draft:
        for side, num_rows in (("train", 300), ("validation", 120)):
            with ShardWriter(draft.path / side, row_schema(workspace.scenario.schema)) as writer:
                writer.write_rows([_row(f"{side}{i}", generator) for i in range(num_rows)])
            draft.counts[side] = num_rows
    return workspace


def train(workspace: Workspace) -> Artifact:
    """A real checkpoint, from the real trainer."""
    return train_model(
        read_artifact(workspace.splits),
        workspace.checkpoint,
        scenario=workspace.scenario,
        config=workspace.config,
        scratch=workspace.scratch / "train",
    )


def _row(name: str, generator: np.random.Generator) -> dict[str, object]:
    label = str(generator.choice(["neg", "pos"]))
    mood = _GOOD if label == "pos" else _BAD
    length = int(generator.integers(4, 30))
    text = "".join(str(generator.choice(list(mood if generator.random() < 0.4 else _NEUTRAL))) for _ in range(length))
    return {"id": name, "origin": "tiny:1", "parent_id": None, "text": text, "label": label}
