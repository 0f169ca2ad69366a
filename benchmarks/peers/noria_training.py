"""Noria's own training core at the work of the benchmarks: the loop, probe and guards that `noria run` uses.

    python -m benchmarks.peers.noria_training WORKLOAD_DIR --settings JSON

Batches are of tokens, padding included (`batch_tokens`; 4,096 unless said). Nothing of the core is
changed for the benchmark: a step is counted when the next batch is asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.batches import blocks
from benchmarks.peers.modules import CLASSIFIER, DECODER, TRANSLATOR, Sizes, context, vocabulary_size
from benchmarks.peers.settings import Settings, read_arguments
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.workloads.format import Workload
from noria.config import Config, ModelConfig, TrainConfig
from noria.data.ragged import Ragged
from noria.model.language_model import LanguageModel
from noria.model.text_classifier import DeepBranch
from noria.model.translator import Translator
from noria.recipes.classification import Labels
from noria.recipes.inference import deep_logits
from noria.recipes.language_modelling import NextTokens
from noria.recipes.translation import TargetTokens
from noria.training.batch import Batch
from noria.training.recipe import Objective, Phase
from noria.training.run import Job, run_job
from noria.training.state import StateStore

PEER = "Noria"
_BATCH_TOKENS = 4_096


@dataclass(frozen=True)
class Work:
    """What is trained; `added_tokens` is how many a row has that are not of the workload."""

    model: nn.Module
    matrices: nn.Module
    head: nn.Module
    objective: Objective
    validate: Callable[[], float]
    added_tokens: int = 0


class Counted:
    """An objective that tells a stopwatch when it is asked for the next batch."""

    def __init__(self, work: Work, watch: Stopwatch) -> None:
        self._work, self._watch = work, watch
        self._begun = False

    def __len__(self) -> int:
        return len(self._work.objective)

    def batch(self, index: int) -> Batch:
        """The batch at `index`; the probe asks for one out of order, before the first."""
        if index > 0 and self._begun:
            self.step()
        self._begun = self._begun or index == 0
        batch = self._work.objective.batch(index)
        if self._begun:
            real = batch.num_tokens - self._work.added_tokens * len(batch.rows)
            self._watch.count(real_tokens=real, target_tokens=batch.num_targets)
        return batch

    def largest(self) -> Batch:
        return self._work.objective.largest()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return self._work.objective.loss(model, batch)

    def step(self) -> None:
        """The step before is done."""
        if self._watch.step():
            with self._watch.validation() as losses, torch.no_grad():
                self._work.model.eval()
                losses.append(self._work.validate())
                self._work.model.train()


def text_classification(workload: Workload, settings: Settings) -> Work:
    description = workload.description
    config = Config.model_validate(
        {
            "name": "benchmark",
            "scenario": "text-classification",
            "source": {"path": "unused"},
            "seed": settings.seed,
            "train": {
                "batch_tokens": settings.batch_tokens or _BATCH_TOKENS,
                "token_mask": 0.0,
                "clause_shuffle": 0.0,
                "label_smoothing": 0.0,
            },
        }
    )
    torch.manual_seed(settings.seed)
    model = DeepBranch(
        _model(CLASSIFIER, settings),
        vocabulary_size=vocabulary_size(workload, settings),
        max_tokens=description.max_tokens,
        num_classes=description.num_labels,
    )
    model.masked_token_head = nn.Identity()  # no pretraining here: no peer has its parameters
    classes = np.array(workload.labels("train"))
    objective = Labels(_int64(workload.rows("train")), classes, config=config, clause_ends=frozenset())

    def validate() -> float:
        logits_NC = deep_logits(model, _int64(workload.rows("validation")))
        return float(F.cross_entropy(logits_NC, torch.from_numpy(np.array(workload.labels("validation")))))

    return Work(model, model.encoder, model.head, objective, validate)


def translation(workload: Workload, settings: Settings) -> Work:
    description, ids = workload.description, workload.description.special_ids
    torch.manual_seed(settings.seed)
    model = Translator(
        _model(TRANSLATOR, settings),
        vocabulary_size=vocabulary_size(workload, settings),
        max_tokens=description.max_tokens + 2,
    )

    def objective(side: str) -> TargetTokens:
        return TargetTokens(
            _with(workload.rows(side, "source"), after=ids["eos"]),
            _with(workload.rows(side, "target"), before=ids["bos"], after=ids["eos"]),
            batch_tokens=settings.batch_tokens or _BATCH_TOKENS,
            seed=settings.seed,
        )

    held_out = objective("validation")
    return Work(
        model,
        model.transformer,
        model.head,
        objective("train"),
        lambda: _mean_loss(model, held_out, (held_out.batch(index) for index in range(len(held_out)))),
        added_tokens=2,  # the ends of source and target; the beginning of a target is no target
    )


def language_modelling(workload: Workload, settings: Settings) -> Work:
    description, width = workload.description, context(settings)
    torch.manual_seed(settings.seed)
    model = LanguageModel(
        _model(DECODER, settings),
        vocabulary_size=vocabulary_size(workload, settings),
        max_tokens=width,
    )
    objective = NextTokens(
        workload.rows("train").values,
        width=width,
        batch_tokens=settings.batch_tokens or _BATCH_TOKENS,
        boundary=description.special_ids["end_of_document"],
        inside_documents=False,  # as the peers
        seed=settings.seed,
    )

    def batches() -> Iterator[Batch]:
        for rows in blocks(workload, "validation", context=width).split(8):
            yield Batch(
                inputs={"token_ids": rows[:, :-1]},
                targets=rows[:, 1:].reshape(-1),
                positions=torch.arange(rows[:, 1:].numel()),
                width=width,
                rows=np.arange(len(rows)),
                lengths=np.full(len(rows), width),
            )

    return Work(model, model.decoder, model.head, objective, lambda: _mean_loss(model, objective, batches()))


WORKS = {
    "text-classification": text_classification,
    "translation": translation,
    "language-modelling": language_modelling,
}


def train(workload: Workload, settings: Settings) -> None:
    """Train for `settings.steps` and print the record."""
    _check(settings, work=workload.description.work)
    watch = Stopwatch(settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(settings.threads)
    work = WORKS[workload.description.work](workload, settings)
    work.model.to(device)
    counted = Counted(work, watch)
    phase = Phase(
        "train",
        objective=counted,
        model=work.model,
        matrices=work.matrices,
        head=work.head,
        epochs=settings.steps / len(counted),
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        schedule=settings.schedule,
    )
    config = TrainConfig.model_validate(
        {
            "optimizer": settings.optimizer,
            "weight_decay": settings.weight_decay,
            "max_grad_norm": settings.max_grad_norm or 1e9,
            "warmup_share": settings.lr_warmup_steps / settings.steps,
            "precision": settings.precision,
            "threads": settings.threads,
            "compile": "on" if settings.compile else "off",
            "checkpoint_every_s": 30.0,
        }
    )
    with tempfile.TemporaryDirectory() as directory:
        watch.start()
        run_job(
            Job(
                config=config,
                seed=settings.seed,
                model=work.model,
                recipe=(phase,),
                row_id=str,
                store=StateStore(Path(directory), fingerprint="benchmark"),
                on_metrics=lambda step, values: None,
                device=device,
            )
        )
        counted.step()
    print(watch.record(peer=PEER, work=workload.description.work, model=work.model).to_json())


def _check(settings: Settings, *, work: str) -> None:
    """Refuse what can't be followed; it batches by tokens and by length, without workers, and AdamW is fused."""
    settings.without(
        PEER,
        activation="relu2",
        batch_size=0,
        group_by_length=False,
        fused=False,
        workers=0,
        attention="sdpa",
    )
    if work != "language-modelling":
        settings.without(PEER, context=0)


def _model(sizes: Sizes, settings: Settings) -> ModelConfig:
    return ModelConfig(**vars(sizes.given(settings)), bigram_buckets=0, dropout=settings.dropout)


def _mean_loss(model: nn.Module, objective: Objective, batches: Iterator[Batch]) -> float:
    device = next(model.parameters()).device
    total, num_targets = 0.0, 0
    for batch in batches:
        total += float(objective.loss(model, batch.to(device)))
        num_targets += batch.num_targets
    return total / num_targets


def _int64(rows: Ragged) -> Ragged:
    return Ragged(rows.values.astype(np.int64), np.asarray(rows.offsets))


def _with(rows: Ragged, *, before: int | None = None, after: int) -> Ragged:
    """Every row between a begin and an end token."""
    begin = [] if before is None else [before]
    framed = [np.asarray([*begin, *rows[row], after], dtype=np.int64) for row in range(len(rows))]
    return Ragged(np.concatenate(framed), np.concatenate([[0], np.cumsum([len(row) for row in framed])]))


if __name__ == "__main__":
    train(*read_arguments(__doc__))
