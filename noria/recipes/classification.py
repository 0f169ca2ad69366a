"""How a text classifier is trained: a linear model to its optimum, a Transformer in two phases, then their blend.

prepare   the wide branch is fitted to its optimum; token embeddings start from co-occurrence
pretrain  the Transformer guesses hidden tokens
train     the Transformer learns from labels; the epoch with the lowest hold-out loss is kept
blend     the two branches are weighed on the hold-out

Shapes: N rows, C classes, V vocabulary, D model dimension.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noria.config import Config
from noria.data.batching import BatchPlan
from noria.data.ragged import Rows, pad
from noria.data.text_encoder import MASK, PAD, TextEncoder
from noria.model.text_classifier import DeepBranch, TextClassifier
from noria.recipes.blend import set_blend
from noria.recipes.cooccurrence import cooccurrence_vectors
from noria.recipes.inference import deep_logits, wide_logits
from noria.recipes.linear import fit_wide
from noria.recipes.masked_tokens import MaskedTokens
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.losses import Said, build_loss, distillation
from noria.training.meter import flops_per_token
from noria.training.recipe import Fit, Phase

logger = logging.getLogger(__name__)

_EMBEDDING_STD = 0.05


class Labels:
    """Tell the class of a row, some of whose tokens are hidden and whose clauses may stand in another order.

    `teacher_NC`, where there is one, says what another model answers to the rows as they are; `beside` counts
    positions of every row that are no tokens.
    """

    def __init__(
        self,
        token_ids: Rows,
        classes: NDArray[np.int64],
        *,
        config: Config,
        clause_ends: frozenset[int],
        teacher_NC: NDArray[np.float32] | None = None,
        beside: int = 0,
    ) -> None:
        train = config.train
        self._plan = BatchPlan(token_ids.lengths + beside, batch_tokens=train.batch_tokens, seed=config.seed)
        self._beside = beside
        self._token_ids = token_ids
        self._classes = classes
        self._teacher_NC = teacher_NC
        self._loss = build_loss(train)
        self._distill = train.distill
        self._token_mask = train.token_mask
        self._clause_shuffle = train.clause_shuffle
        self._clause_ends = np.asarray(sorted(clause_ends), dtype=np.int64)
        self._seed = config.seed

    def __len__(self) -> int:
        return len(self._plan)

    @property
    def mean_length(self) -> float:
        """Positions of a row."""
        return float(self._token_ids.lengths.mean()) + self._beside

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        planned = self._plan.batch(index)
        rng = np.random.default_rng((self._seed, index, 2))
        rows = [
            self._shuffled(row, rng) if rng.random() < self._clause_shuffle else row
            for row in (self._token_ids[number] for number in planned.rows)
        ]
        token_ids = pad(rows, width=planned.width - self._beside)
        real = token_ids != PAD
        hidden = real & (rng.random(token_ids.shape) < self._token_mask)
        inputs = {"token_ids": torch.from_numpy(np.where(hidden, MASK, token_ids))}
        if self._teacher_NC is not None:
            inputs["teacher"] = torch.from_numpy(self._teacher_NC[planned.rows])
        return Batch(
            inputs=inputs,
            targets=torch.from_numpy(self._classes[planned.rows]),
            positions=None,
            width=planned.width,
            rows=planned.rows,
            lengths=real.sum(1) + self._beside,
        )

    def largest(self) -> Batch:
        """The batch with the most cells."""
        return self.batch(self._plan.largest())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the rows."""
        return self.loss_of(self.said(model, batch), batch)

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        assert isinstance(said, Tensor)
        loss = self._loss(said, batch.targets)
        if self._teacher_NC is None:
            return loss
        taught = distillation(said, batch.inputs["teacher"], temperature=self._distill.temperature)
        return (1 - self._distill.weight) * loss + self._distill.weight * taught

    def said(self, model: nn.Module, batch: Batch) -> Tensor:
        """Float32 (N, C)."""
        logits_NC: Tensor = model(batch.inputs["token_ids"])
        return logits_NC

    def _shuffled(self, row: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.generic]:
        """The clauses of a row in another order; a clause ends behind a token of punctuation."""
        ends = np.flatnonzero(np.isin(row[:-1], self._clause_ends)) + 1
        if not len(ends):
            return row
        clauses = np.split(row, ends)
        return np.concatenate([clauses[i] for i in rng.permutation(len(clauses))])


def classification_recipe(
    config: Config,
    *,
    encoder: TextEncoder,
    rows: TrainingRows,
    model: TextClassifier,
) -> tuple[Fit | Phase, ...]:
    """The training of `model`, which changes as it learns."""
    deep = model.deep
    if deep is None:
        return branches_recipe(config, rows=rows, model=model, labels=None, holdout=None)
    labels = Labels(
        rows.view("token_ids", holdout=False),
        rows.classes(holdout=False),
        config=config,
        clause_ends=encoder.clause_ends,
        teacher_NC=rows.teacher,
    )
    held_out = rows.view("token_ids", holdout=True)
    return branches_recipe(config, rows=rows, model=model, labels=labels, holdout=lambda: deep_logits(deep, held_out))


def branches_recipe(
    config: Config,
    *,
    rows: TrainingRows,
    model: TextClassifier,
    labels: Labels | None,
    holdout: Callable[[], Tensor] | None,
    before: Sequence[Phase] = (),
) -> tuple[Fit | Phase, ...]:
    """The training of a model in two branches, of which the Transformer learns `labels`.

    `holdout` gives the Transformer's logits float32 (N, C) of the hold-out; `before` is what it learns between
    the hidden tokens and `labels`.
    """
    recipe: list[Fit | Phase] = [Fit("prepare", lambda: _prepare(config, rows, model))]
    if model.deep is not None and labels is not None and holdout is not None:
        if config.train.pretrain.epochs:
            recipe.append(_pretraining(config, rows, model.deep))
        recipe.extend(before)
        recipe.append(_training(config, rows, model.deep, labels, holdout))
    recipe.append(Fit("blend", lambda: _blend(config, rows, model, holdout)))
    return tuple(recipe)


def _prepare(config: Config, rows: TrainingRows, model: TextClassifier) -> Mapping[str, float]:
    if model.wide is not None:
        fit_wide(
            model.wide,
            rows.tensor("ngram_ids", holdout=False),
            rows.tensor("ngram_values", holdout=False),
            rows.classes(holdout=False),
            inverse_regularization=config.model.wide.inverse_regularization,
        )
    window = config.train.pretrain.cooccurrence_window
    if model.deep is not None and window and config.train.init_from == "none":
        tokens_VD = model.deep.frontend.tokens
        vectors_VD = cooccurrence_vectors(
            rows.tensor("token_ids", holdout=False),
            vocabulary_size=len(tokens_VD),
            dim=tokens_VD.shape[1],
            window=window,
            std=_EMBEDDING_STD,
            seed=config.seed,
        )
        if vectors_VD is not None:
            with torch.no_grad():
                tokens_VD.copy_(vectors_VD)
    return {}


def _pretraining(config: Config, rows: TrainingRows, deep: DeepBranch) -> Phase:
    pretrain = config.train.pretrain
    token_ids = rows.view("token_ids", holdout=False)
    objective = MaskedTokens(
        token_ids,
        mask_share=pretrain.mask_share,
        batch_tokens=pretrain.batch_tokens,
        vocabulary_size=len(deep.frontend.tokens),
        seed=config.seed,
    )
    return Phase(
        "pretrain",
        objective=objective,
        model=deep,
        matrices=deep.encoder,
        head=deep.masked_token_head,
        epochs=pretrain.epochs,
        lr=pretrain.lr,
        muon_lr=pretrain.muon_lr,
        schedule=pretrain.schedule,
        flops_per_token=flops_per_token(
            config.model,
            length=float(token_ids.lengths.mean()),
            vocabulary_size=len(deep.frontend.tokens),
            output_share=pretrain.mask_share,
        ),
    )


def _training(
    config: Config, rows: TrainingRows, deep: DeepBranch, labels: Labels, holdout: Callable[[], Tensor]
) -> Phase:
    train = config.train
    loss = build_loss(train)

    def judge() -> Mapping[str, float]:
        logits_NC = holdout()
        classes_N = torch.from_numpy(rows.classes(holdout=True))
        return {
            "holdout_loss": float(loss(logits_NC, classes_N)) / len(classes_N),
            "holdout_accuracy": _accuracy(logits_NC, classes_N),
        }

    return Phase(
        "train",
        objective=labels,
        model=deep,
        matrices=deep.encoder,
        head=deep.head,
        epochs=train.epochs,
        lr=train.lr,
        muon_lr=train.muon_lr,
        schedule=train.schedule,
        flops_per_token=flops_per_token(config.model, length=labels.mean_length),
        judge=judge,
    )


def _blend(
    config: Config, rows: TrainingRows, model: TextClassifier, holdout: Callable[[], Tensor] | None
) -> Mapping[str, float]:
    classes_N = torch.from_numpy(rows.classes(holdout=True))
    wide_NC = deep_NC = None
    if model.wide is not None:
        ids, values = (rows.view(name, holdout=True) for name in ("ngram_ids", "ngram_values"))
        wide_NC = wide_logits(model.wide, ids, values)
    if model.deep is not None and holdout is not None:
        model.deep.compute_dtype = torch.float32
        deep_NC = holdout()
    loss = set_blend(model, wide_NC=wide_NC, deep_NC=deep_NC, classes_N=classes_N, deep_weight=config.model.deep_weight)
    values_by_name = {"final_loss": loss}
    for name, logits_NC in (("wide", wide_NC), ("deep", deep_NC)):
        if logits_NC is not None:
            values_by_name[f"{name}_accuracy"] = _accuracy(logits_NC, classes_N)
    blended_NC = sum(
        float(scale) * logits_NC
        for scale, logits_NC in ((model.wide_scale, wide_NC), (model.deep_scale, deep_NC))
        if logits_NC is not None
    )
    assert isinstance(blended_NC, Tensor)
    values_by_name["blend_accuracy"] = _accuracy(blended_NC, classes_N)
    return values_by_name


def _accuracy(logits_NC: Tensor, classes_N: Tensor) -> float:
    return float((logits_NC.argmax(-1) == classes_N).double().mean())
