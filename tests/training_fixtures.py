"""Tiny trainings on one thread: a split and a checkpoint made in seconds, and a core that needs no files at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import AverageConfig, Config, GuardConfig, ModelConfig
from noria.data.ragged import Ragged
from noria.data.rows import ShardWriter, content_id, row_schema
from noria.model.text_classifier import DeepBranch
from noria.recipes.classification import Labels
from noria.recipes.masked_tokens import MaskedTokens
from noria.scenarios import load_scenario
from noria.training.averaging import Average
from noria.training.distributed import Ranks, Replica
from noria.training.guards import Guard
from noria.training.loop import Run, my_units, take_step
from noria.training.optimizers import build_optimizers
from noria.training.recipe import Fit, Objective, Phase, Recipe
from noria.training.run import Job
from noria.training.state import Point, StateStore
from noria.training.train import train_model

SCENARIO = load_scenario("text-classification")
COMMA = 4
"""The token behind which clauses end."""
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


def ragged(rows: Sequence[np.ndarray]) -> Ragged:
    return Ragged(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


def some_tokens(num_rows: int = 40, *, longest: int = 16) -> Ragged:
    rng = np.random.default_rng(0)
    return ragged([rng.integers(3, 50, rng.integers(1, longest + 1)) for _ in range(num_rows)])


def branch(seed: int = 0, *, layers: int = 1, dropout: float = 0.0) -> DeepBranch:
    torch.manual_seed(seed)
    config = ModelConfig(layers=layers, dim=16, heads=2, feed_forward_dim=32, bigram_buckets=32, dropout=dropout)
    return DeepBranch(config, vocabulary_size=50, max_tokens=16, num_classes=2)


def labels(token_ids: Ragged, *, batch_tokens: int, **train: object) -> Labels:
    """The objective over rows whose class is whether their first token is low."""
    settings = {"token_mask": 0.0, "clause_shuffle": 0.0, "label_smoothing": 0.0, **train}
    classes = np.asarray([int(token_ids[row][0] < 26) for row in range(len(token_ids))])
    config = tiny_config(batch_tokens=batch_tokens, **settings)
    return Labels(token_ids, classes, config=config, clause_ends=frozenset({COMMA}))


def masked_tokens(token_ids: Ragged, *, batch_tokens: int) -> MaskedTokens:
    return MaskedTokens(token_ids, mask_share=0.3, batch_tokens=batch_tokens, vocabulary_size=50, seed=3)


def phase_of(objective: Objective, deep: DeepBranch, **changes: object) -> Phase:
    """A phase of the objective; `changes` are its attributes."""
    settings = {"epochs": 1.0, "lr": 0.1, "muon_lr": 0.02, "schedule": "constant", "head": deep.head, **changes}
    name = str(settings.pop("name", "train"))
    return Phase(name, objective=objective, model=deep, matrices=deep.encoder, **settings)


def run_of(
    phase: Phase, *, optimizer: str = "sgd", accumulate: int = 1, parts: int = 1, max_grad_norm: float = 1e9
) -> Run:
    """The phase at a constant rate, without weight decay."""
    chosen = build_optimizers(
        optimizer, phase.model, matrices=phase.matrices, lr=phase.lr, muon_lr=phase.muon_lr, weight_decay=0.0
    )
    steps = len(phase.objective) // accumulate
    return Run(
        phase=phase,
        replica=Replica(
            phase.model, phase.objective, kind="none", ranks=Ranks(), sample=lambda: phase.objective.batch(0)
        ),
        optimizers=tuple(chosen),
        schedule=lambda step: 1.0,
        average=Average(AverageConfig(), phase.model, num_steps=steps),
        guard=Guard(GuardConfig(), row_id=str),
        ranks=Ranks(),
        device=torch.device("cpu"),
        num_steps=steps,
        accumulate=accumulate,
        parts=parts,
        max_grad_norm=max_grad_norm,
        seed=1,
    )


def step(run: Run, number: int) -> float:
    """Take one step; the mean loss before it."""
    loss, _, num_targets = take_step(run, number, list(my_units(run, number)), rate=1.0)
    return float(loss) / max(num_targets, 1)


class Listener:
    """Keeps the points of the learning curves that a job tells."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        self.points.append(Point(step, values))

    def curve(self) -> list[tuple[int, dict[str, float]]]:
        """Everything but the clock's part."""
        return [(p.step, {k: v for k, v in p.values.items() if k != "tokens_per_s"}) for p in self.points]


def small_job(directory: Path, deep: DeepBranch, recipe: Recipe, *, told: Listener, **train: object) -> Job:
    """A job over a recipe, its state in `directory`; `train` are settings. Low-rank updates start from `deep`."""
    config = tiny_config(**{"optimizer": "adamw", "lr": 1e-2, "init_from": "champion", **train})
    return Job(
        config=config.train,
        seed=config.seed,
        model=deep,
        recipe=recipe,
        row_id=lambda row: f"row-{row}",
        store=StateStore(directory, fingerprint="small"),
        on_metrics=told,
        device=torch.device("cpu"),
    )


def same_weights(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether they are bitwise the same."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def fit(name: str, **values: float) -> Fit:
    """A part that is done at once, and says `values`."""
    return Fit(name, lambda: values)
