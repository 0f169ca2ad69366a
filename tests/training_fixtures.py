"""A tiny split and a tiny trained checkpoint, made in seconds on one thread, for tests of what comes after training."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import Config
from noria.data.rows import ShardWriter, content_id, row_schema
from noria.scenarios import load_scenario
from noria.training.train import train_model

SCENARIO = load_scenario("text-classification")
_GOOD = ["质量很好", "物流很快", "非常满意", "值得购买", "服务周到", "味道不错", "下次再来", "包装精美"]
_BAD = ["质量太差", "物流很慢", "非常失望", "浪费钱", "服务恶劣", "味道难吃", "再也不买", "包装破损"]

TINY: Mapping[str, object] = {
    "name": "tiny",
    "scenario": "text-classification",
    "source": {"path": "unused"},
    "tokenizer": {"vocabulary_size": 120, "max_tokens": 24},
    "model": {"layers": 1, "dim": 16, "heads": 2, "feed_forward_dim": 32, "bigram_buckets": 64},
    "train": {
        "lr": 3e-3,
        "epochs": 3,
        "optimizer": "muon",
        "batch_tokens": 256,
        "holdout_share": 0.2,
        "threads": 1,
        "device": "cpu",
        "precision": "fp32",
        "pretrain": {"epochs": 2, "batch_tokens": 256},
    },
}


def tiny_config(**train: object) -> Config:
    """The tiny configuration, `train` keys changed."""
    return Config.model_validate({**TINY, "train": {**TINY["train"], **train}})


def tiny_rows(num_rows: int, *, seed: int = 0) -> list[dict[str, object]]:
    """Distinct reviews of two or three clauses, all good or all bad."""
    rng = np.random.default_rng(seed)
    rows: dict[str, dict[str, object]] = {}
    while len(rows) < num_rows:
        label, clauses = [("pos", _GOOD), ("neg", _BAD)][int(rng.integers(2))]
        text = "，".join(rng.permutation(clauses)[: rng.integers(2, 4)]) + f"，第{rng.integers(1000)}次"
        identity = content_id({"text": text})
        origin = f"tiny.txt:{len(rows) + 1}"
        rows[identity] = {"id": identity, "origin": origin, "parent_id": None, "text": text, "label": label}
    return list(rows.values())


def tiny_splits(path: Path, *, num_train: int = 160, num_validation: int = 40) -> Artifact:
    """A split artifact with `train` and `validation` shards."""
    rows = tiny_rows(num_train + num_validation)
    sides = {"train": rows[:num_train], "validation": rows[num_train:]}
    with write_artifact(path, kind="splits") as draft:
        for side, members in sides.items():
            with ShardWriter(draft.path / side, row_schema(SCENARIO.schema)) as writer:
                writer.write_rows(members)
            draft.counts[side] = len(members)
    return read_artifact(path)


def tiny_checkpoint(path: Path, *, splits: Artifact, config: Config | None = None) -> Artifact:
    """A trained checkpoint that tells good from bad."""
    return train_model(
        splits, path, scenario=SCENARIO, config=config or tiny_config(), scratch=path.with_name(f"{path.name}-scratch")
    )
