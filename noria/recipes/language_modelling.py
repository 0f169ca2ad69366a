"""Next-token prediction over documents that are packed into rows of one width: no padding, static shapes.

A boundary token stands before every document, and behind the last. It is what a document's last token is asked
for, and what the next one's first is asked from: as an input it belongs to the document that it begins.

Shapes: B rows, T width, N = B * T targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noria.config import Config
from noria.data.ragged import Rows
from noria.errors import TrainingError
from noria.model.attention import Packing
from noria.model.language_model import BOUNDARY, LanguageModel
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.losses import Projected, Said, linear_cross_entropy
from noria.training.meter import flops_per_token
from noria.training.recipe import Fit, Phase

DOCUMENT = "document"
"""What the encoder calls a document: boundary, tokens, boundary."""


class NextTokenModel(Protocol):
    """A model that can be asked for next tokens."""

    def next_tokens(
        self, token_ids_BT: Tensor, positions_N: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions: vectors (N, D), and weights (V, D) and bias (V)."""
        ...


class NextTokens:
    """The objective over one stream of tokens, in which `boundary` stands between documents.

    An epoch covers the stream once, cut into rows at a place that is drawn anew for each epoch, in
    a drawn order. With `inside_documents`, no token sees another document.
    """

    def __init__(
        self,
        stream: NDArray[np.generic],
        *,
        width: int,
        batch_tokens: int,
        boundary: int,
        inside_documents: bool,
        seed: int,
    ) -> None:
        self._stream = stream
        self._width = width
        self._rows_per_batch = max(1, batch_tokens // width)
        self._boundary = boundary
        self._inside_documents = inside_documents
        self._seed = seed
        self._boundaries = np.flatnonzero(np.asarray(stream) == boundary)
        self._num_rows = max(0, (len(stream) - 1) // width - 1)  # one fewer: room for the drawn place of the first cut
        self._rows_per_batch = max(1, min(self._rows_per_batch, self._num_rows))
        self._cut = self._draw(0)

    def __len__(self) -> int:
        return self._num_rows // self._rows_per_batch

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        epoch, place = divmod(index, len(self))
        if epoch != self._cut.epoch:
            self._cut = self._draw(epoch)
        first = self._cut.first
        rows = self._cut.rows[place * self._rows_per_batch :][: self._rows_per_batch]
        return self._cut_batch(first + rows * self._width)

    def in_order(self) -> Iterator[Batch]:
        """Every token of the stream but its first, asked for once; the last row may be shorter."""
        starts = np.arange(0, len(self._stream) - 1, self._width)
        for first in range(0, len(starts), self._rows_per_batch):
            yield self._cut_batch(starts[first : first + self._rows_per_batch])

    def _cut_batch(self, starts: NDArray[np.int64]) -> Batch:
        """Rows that begin at these places; each is called by the document that it begins in."""
        cut = np.zeros((len(starts), self._width + 1), np.int64)
        lengths = np.zeros(len(starts), np.int64)
        for number, start in enumerate(starts):
            part = self._stream[start : start + self._width + 1]
            cut[number, : len(part)], lengths[number] = part, len(part) - 1
        tokens = torch.from_numpy(cut)
        positions = np.flatnonzero(np.arange(self._width) < lengths[:, None])
        return Batch(
            inputs={"token_ids": tokens[:, :-1].contiguous()},
            targets=tokens[:, 1:].reshape(-1)[torch.from_numpy(positions)],
            positions=torch.from_numpy(positions),
            width=self._width,
            rows=np.maximum(np.searchsorted(self._boundaries, starts, side="right") - 1, 0),
            lengths=lengths,
            layout=cut[:, :-1] == self._boundary if self._inside_documents else None,
        )

    def largest(self) -> Batch:
        """All are of one size."""
        return self.batch(0)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the tokens."""
        return self.loss_of(self.said(model, batch), batch)

    def said(self, model: nn.Module, batch: Batch) -> Projected:
        """Logits (N, V) of the token behind each."""
        assert batch.positions is not None
        token_ids, packing = batch.inputs["token_ids"], None
        if not len(batch.rows):  # one row that nothing is asked of: every rank takes part, and kernels want tokens
            token_ids = token_ids.new_zeros(1, batch.width)
        elif batch.layout is not None:
            packing = pack(batch.layout, device=token_ids.device)
            token_ids = token_ids.reshape(1, -1)
        return Projected(*cast("NextTokenModel", model).next_tokens(token_ids, batch.positions, packing))

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        assert isinstance(said, Projected)
        return linear_cross_entropy(said.vectors, said.weights, batch.targets, said.bias)

    def _draw(self, epoch: int) -> _Cut:
        rng = np.random.default_rng((self._seed, epoch, 3))
        return _Cut(epoch, int(rng.integers(self._width)), rng.permutation(self._num_rows))


@dataclass(frozen=True)
class _Cut:
    """How an epoch cuts the stream: where the first row begins, and the order of the rows."""

    epoch: int
    first: int
    rows: NDArray[np.int64]


def pack(boundaries_BT: NDArray[np.generic], *, device: torch.device) -> Packing:
    """The documents of rows laid end to end: one begins with every row, and at every boundary."""
    begins_BT = boundaries_BT.copy()
    begins_BT[:, 0] = True
    offsets = np.append(np.flatnonzero(begins_BT), begins_BT.size).astype(np.int32)
    host = torch.from_numpy(offsets)
    moved = host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
    return Packing(moved, longest=int(np.diff(offsets).max()), width=begins_BT.shape[1])


def stream_of(documents: Rows) -> NDArray[np.int32]:
    """Documents behind one another, one boundary between two."""
    parts = [np.asarray(documents[row])[:-1] for row in range(len(documents))]
    return np.concatenate([*parts, [BOUNDARY]]).astype(np.int32)


def language_modelling_recipe(config: Config, *, rows: TrainingRows, model: LanguageModel) -> tuple[Fit | Phase, ...]:
    """The training of `model`, which changes as it learns: one phase, of which the best epoch is kept."""
    train, width = config.train, config.tokenizer.max_tokens

    def objective(*, holdout: bool) -> NextTokens:
        return NextTokens(
            stream_of(rows.view(DOCUMENT, holdout=holdout)),
            width=width,
            batch_tokens=train.batch_tokens,
            boundary=BOUNDARY,
            inside_documents=True,
            seed=config.seed,
        )

    held_out, learned = objective(holdout=True), objective(holdout=False)
    if not len(learned):
        raise TrainingError(
            "the documents to learn from are shorter than two contexts together",
            where=f"params.yaml: tokenizer.max_tokens: {width}",
            next_step="bring more text, or lower `tokenizer.max_tokens`",
        )

    def judge() -> Mapping[str, float]:
        return {"holdout_loss": mean_loss(model, held_out)}

    phase = Phase(
        "train",
        objective=learned,
        model=model,
        matrices=model.decoder,
        head=model.head,
        epochs=train.epochs,
        lr=train.lr,
        muon_lr=train.muon_lr,
        schedule=train.schedule,
        flops_per_token=flops_per_token(config.model, length=width, vocabulary_size=len(model.frontend.tokens)),
        judge=judge,
    )
    return (phase, Fit("finish", lambda: _finish(model)))


def _finish(model: LanguageModel) -> Mapping[str, float]:
    model.compute_dtype = torch.float32
    return {}


@torch.inference_mode()
def mean_loss(model: nn.Module, objective: NextTokens) -> float:
    """Cross entropy a token, in nats, over the whole stream; the model is left in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    total, num_targets = 0.0, 0
    for batch in objective.in_order():
        total += float(objective.loss(model, batch.to(device)))
        num_targets += batch.num_targets
    return total / num_targets
