"""What a scenario is: one kind of ML problem, as a frozen bundle of functions.

The rest of Noria knows this file and never a named scenario. A scenario module stays cheap to
import: whatever needs torch is imported inside the function that needs it, so that the data nodes
and the server never pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from noria.config import AugmentConfig, CleanConfig, Config, SplitConfig

if TYPE_CHECKING:
    import torch

    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

Row = Mapping[str, object]
"""The values of a row, or of a request."""
Tensors = Mapping[str, np.ndarray]
"""Named arrays, batch first: what the model and its ONNX graph take and give."""


class Encoder(Protocol):
    """Turns rows into tensors. Fitted on the training rows, saved in the checkpoint and the bundle; no torch in it."""

    def encode(self, values: Mapping[str, object]) -> Tensors:
        """One row's (or one request's) arrays, without a batch dimension and without padding."""
        ...

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> Sequence[Tensors]:
        """Many rows at once: the same as `encode` of each, and faster."""
        ...

    def targets(self, rows: Sequence[Mapping[str, object]]) -> Sequence[Tensors | None]:
        """What is to be learned of labelled rows, as flat arrays under names of their own.

        None where nothing can be: a class that no row to fit has.
        """
        ...

    def collate(self, encoded: Sequence[Tensors]) -> Tensors:
        """Pad rows to one batch: the inputs of the model, by name."""
        ...

    def num_tokens(self, encoded: Tensors) -> int:
        """Length that the token budget of a batch counts."""
        ...

    def save(self, directory: Path) -> None:
        """Write plain files (JSON, safetensors; never pickle)."""
        ...


@runtime_checkable
class InPieces(Protocol):
    """What an encoder adds whose rows can be longer than what the model reads at once.

    Its `collate` and `num_tokens` take pieces.
    """

    def pieces(self, encoded: Tensors) -> Sequence[Tensors]:
        """An encoded row as the model reads it, one piece or more."""
        ...

    def join(self, outputs: Sequence[Tensors]) -> Tensors:
        """What the model said of the pieces of a row, in their order, as what it says of the row."""
        ...


@runtime_checkable
class Growing(Protocol):
    """What an encoder adds whose answers are made from their beginnings on, so that these can be had first."""

    @property
    def grows(self) -> bool:
        """Whether they are here: with beams an answer may change from its first token on, until it is whole."""
        ...

    def beginnings(self, encoded: Tensors) -> Sequence[Tensors]:
        """An encoded row, asked for more of its answer each time and at last for all.

        Where each is computed alone, the text that the scenario has `written` begins with the one before, exactly.
        """
        ...

    def is_whole(self, encoded: Tensors, output: Tensors) -> bool:
        """Whether the answer to a beginning ended by itself: more would be the same."""
        ...


def can_grow(encoder: object) -> TypeGuard[Growing]:
    """Whether beginnings of answers can be had of this encoder."""
    return isinstance(encoder, Growing) and encoder.grows


def pieces_of(encoder: Encoder, encoded: Tensors) -> Sequence[Tensors]:
    """What the model reads of an encoded row at once: the row itself, or its pieces."""
    return encoder.pieces(encoded) if isinstance(encoder, InPieces) else [encoded]


@dataclass(frozen=True)
class Repaired:
    """What became of one row: new values, or the rule it broke and why."""

    values: Mapping[str, object] | None
    rule: str = ""
    reason: str = ""
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """A part of a model that is exported, fused and quantized as a graph of its own.

    Attributes
    ----------
    module:
        Takes `inputs` in their order, without names, and returns the tensors that `outputs` names.
    inputs:
        An example, by name.
    fixed:
        By input, the axes whose size is that of the example in every call; all others stay open.
    shared:
        By input, the axes whose size all rows share, such as the bands of a spectrum: the graph may fix them.
    inner:
        Inputs and outputs that only pass between parts or from round to round: they may be of any precision, in all
        parts alike.
    """

    name: str
    module: torch.nn.Module
    inputs: Tensors
    outputs: tuple[str, ...]
    fixed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    shared: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    inner: Collection[str] = ()


@dataclass(frozen=True)
class Parts:
    """A model in parts.

    Attributes
    ----------
    join:
        Makes one graph of theirs: (graph of each part by name, where to write).
    seen:
        What each part is given, by its name, as the model answers a batch: all of it or a sample.
    """

    parts: tuple[Part, ...]
    join: Callable[[Mapping[str, Path], Path], None]
    seen: Callable[[Tensors], Mapping[str, Sequence[Tensors]]]


@dataclass(frozen=True)
class HeldOut:
    """Which of R rows judge, and what they must bring along because the other rows are not there when they do.

    Attributes
    ----------
    judges:
        bool (R,).
    context:
        More columns of the rows that judge, in their order.
    counts:
        What is worth telling, by name.
    """

    judges: np.ndarray
    context: pa.Table
    counts: Mapping[str, int]


def relabelled(target: str) -> Callable[[Row, str], Row]:
    """What `Scenario.correct` is where a row is a request and a target."""
    return lambda values, right: {**values, target: right}


@dataclass(frozen=True)
class Scenario:
    """One kind of ML problem.

    Attributes
    ----------
    name:
        Kebab case; the module is the same in snake case.
    schema:
        The content columns of a row, in order (`id`, `origin`, `parent_id` are added by Noria).
    target:
        The content column that is predicted.
    is_labelled:
        Whether the target says something about the rest of the row, so that rows can contradict each other; False
        where it is all there is (a language model's text).
    defaults:
        Under `params.yaml`, section by section.
    measure:
        Adds the columns that the gate judges: (content batch) -> the same batch and more columns.
    repair:
        Repairs one row's values, or says why it can't.
    duplicate_key:
        The text whose character n-grams decide what is a duplicate.
    leak_key:
        The text that no training row may have (nearly) in common with a validation row: by default `duplicate_key`.
    augment:
        New values for one row, or None where nothing sensible can be changed: (values, config, generator).
    fit_encoder, load_encoder:
        Train the encoder on training rows; read it back.
    build_model:
        The untrained module; its forward takes the encoder's tensors by name and returns what an answer is
        made of, batch first: one tensor (`logits`), or several by name.
    recipe:
        How the model is trained: (config, encoder, training rows, model).
    judge:
        Sets what the model said beside the truth: (rows, outputs a row, encoder) -> what metrics are made of.
    decode:
        (requests, outputs a row, encoder) -> responses as plain dicts.
    slices:
        Named groups of validation rows: values -> {slice name: member}.
    request, response:
        What the server takes and gives for one row.
    example:
        A request to show and to try.
    sample:
        Writes sample data for a first run into a directory.
    correct:
        A labelled row of the values of a request and of what would have been right, which is never empty, or None
        where it can't be; for a scenario whose rows say more than that, feedback is only counted.
    written:
        The field of the response, a text, that is written token by token: one choice changes all that follow.
    labels:
        Class names in the order of the logits, from an encoder; None where answers are no classes.
    request_of, row_of:
        From a row to a request that JSON can hold, and from a validated request to the values of a row.
    request_of_text:
        What `noria predict TEXT` asks: by default, TEXT is the request's first field.
    parts:
        For a model that is no single graph when it is exported: (model, collated rows) -> its parts.
    report:
        Writes more files into the evaluation report: (rows, outputs a row, what was judged, encoder, directory).
    hold_out:
        Which rows judge, where that depends on other rows: (all rows but augmented ones, config). By default it
        is decided by the hash of a row's group. A row that was trained on must never judge later, as data grows.
    """

    name: str
    schema: pa.Schema
    target: str
    defaults: Mapping[str, object]
    measure: Callable[[pa.RecordBatch], pa.RecordBatch]
    repair: Callable[[Mapping[str, object], CleanConfig], Repaired]
    duplicate_key: Callable[[Mapping[str, object]], str]
    augment: Callable[[Mapping[str, object], AugmentConfig, np.random.Generator], Mapping[str, object] | None]
    fit_encoder: Callable[[Iterable[Mapping[str, object]], Config], Encoder]
    load_encoder: Callable[[Path], Encoder]
    build_model: Callable[[Config, Encoder], torch.nn.Module]
    recipe: Callable[[Config, Encoder, TrainingRows, torch.nn.Module], Recipe]
    judge: Callable[[Sequence[Row], Sequence[Tensors], Encoder], Judged]
    decode: Callable[[Sequence[Row], Sequence[Tensors], Encoder], Sequence[Mapping[str, object]]]
    slices: Callable[[Mapping[str, object]], Mapping[str, bool]]
    request: type[BaseModel]
    response: type[BaseModel]
    example: Mapping[str, object]
    sample: Callable[[Path], None]
    labels: Callable[[Encoder], Sequence[str]] | None = None
    request_of: Callable[[Row], Mapping[str, object]] | None = None
    row_of: Callable[[BaseModel], Row] = field(default=BaseModel.model_dump)
    request_of_text: Callable[[str], Mapping[str, object]] | None = None
    parts: Callable[[torch.nn.Module, Tensors], Parts] | None = None
    report: Callable[[Sequence[Row], Sequence[Tensors], Judged, Encoder, Path], None] | None = None
    hold_out: Callable[[pa.Table, SplitConfig], HeldOut] | None = None
    leak_key: Callable[[Mapping[str, object]], str] | None = None
    is_labelled: bool = True
    written: str = ""
    correct: Callable[[Row, str], Row | None] | None = None

    def as_request(self, row: Row) -> Mapping[str, object]:
        """What a client would send to have this row answered."""
        if self.request_of is not None:
            return self.request_of(row)
        return {name: row[name] for name in self.request.model_fields}

    def as_request_of_text(self, text: str) -> Mapping[str, object]:
        """What a line of plain text asks."""
        if self.request_of_text is not None:
            return self.request_of_text(text)
        return {next(iter(self.request.model_fields)): text}
