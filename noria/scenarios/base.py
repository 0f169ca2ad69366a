"""What a scenario is: one kind of ML problem, as a frozen bundle of functions.

The rest of Noria knows this file and never a named scenario. A scenario module stays cheap to
import: whatever needs torch is imported inside the function that needs it, so that the data nodes
and the server never pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from noria.config import AugmentConfig, CleanConfig, Config

if TYPE_CHECKING:
    import torch

    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

Tensors = Mapping[str, np.ndarray]
"""Named arrays, batch first: what the model and its ONNX graph take."""


class Encoder(Protocol):
    """Turns rows into tensors. Fitted on the training rows, saved in the checkpoint and the bundle; no torch in it."""

    def encode(self, values: Mapping[str, object]) -> Tensors:
        """One row's (or one request's) arrays, without a batch dimension and without padding."""
        ...

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> Sequence[Tensors]:
        """Many rows at once: the same as `encode` of each, and faster."""
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


@dataclass(frozen=True)
class Repaired:
    """What became of one row: new values, or the rule it broke and why."""

    values: Mapping[str, object] | None
    rule: str = ""
    reason: str = ""
    repairs: tuple[str, ...] = ()


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
    defaults:
        Under `params.yaml`, section by section.
    measure:
        Adds the columns that the gate judges: (content batch) -> the same batch and more columns.
    repair:
        Repairs one row's values, or says why it can't.
    duplicate_key:
        The text whose character n-grams decide what is a duplicate.
    augment:
        New values for one row, or None where nothing sensible can be changed: (values, config, generator).
    fit_encoder, load_encoder:
        Train the encoder on training rows; read it back.
    build_model:
        The untrained module; its forward takes the encoder's tensors by name and returns logits of shape (B, C).
    recipe:
        How the model is trained: (config, encoder, training rows, model).
    labels:
        Class names in the order of the logits, from an encoder.
    decode:
        Logits (B, C) -> responses as plain dicts.
    slices:
        Named groups of validation rows: values -> {slice name: member}.
    request, response:
        What the server takes and gives for one row.
    example:
        A request to show and to try.
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
    labels: Callable[[Encoder], Sequence[str]]
    decode: Callable[[np.ndarray, Encoder], Sequence[Mapping[str, object]]]
    slices: Callable[[Mapping[str, object]], Mapping[str, bool]]
    request: type[BaseModel]
    response: type[BaseModel]
    example: Mapping[str, object]
