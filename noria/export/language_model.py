"""A language model as one ONNX graph: what it says of documents, and how prompts go on.

Shapes: B batch, W windows, U = C + 1 tokens of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.export.generation import GeneratorModule, generation_parts
from noria.export.loop import SAMPLING
from noria.export.runtime import for_runtime
from noria.scenarios.base import Part, Parts, Tensors

_WINDOW, _WINDOWS, _PROMPT, _JUDGE = "window", "windows", "prompt", "judge"
_SEEN_WINDOWS = 2  # of a document, for a form that has to see numbers
_MORE_TOKENS = 7  # a prompt of one token would be taken for one of any length that is broadcast


class LanguageModelModule(GeneratorModule, Protocol):
    """A module that generates and that says how likely a text is."""

    config: ModelConfig

    def score(self, window_BU: Tensor) -> Tensor:
        """Log probability float32 (B, U - 1) of each token but the first."""
        ...


def language_model_parts(model: LanguageModelModule, example: Tensors) -> Parts:
    """Start, step and judge of windows; the graph has the tensors of the encoder, `log_probs` and `tokens`.

    With beams nothing is drawn: the graph then takes no notice of temperature, top-k, top-p and draws.
    """
    generation = model.config.generation
    given = {name: array for name, array in example.items() if name not in (*SAMPLING, _WINDOWS)}
    given[_PROMPT] = np.pad(given[_PROMPT], ((0, 0), (0, _MORE_TOKENS)), constant_values=1)
    judge = Part(_JUDGE, _Judge(for_runtime(model)), {_WINDOW: example[_WINDOWS][:, 0]}, ("log_probs",))
    parts = generation_parts(model, given, config=generation, sampled=generation.beams == 1, judge=judge)
    return replace(parts, seen=partial(_seen, parts))


def _seen(parts: Parts, batch: Tensors) -> Mapping[str, Sequence[Tensors]]:
    """What the judge is given as well; of a long document, its first windows."""
    batch = {**batch, _WINDOWS: batch[_WINDOWS][:, :_SEEN_WINDOWS]}
    return {**parts.seen(batch), _JUDGE: [{_WINDOW: window_BU} for window_BU in batch[_WINDOWS].swapaxes(0, 1)]}


class _Judge(nn.Module):
    def __init__(self, model: LanguageModelModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, window_BU: Tensor) -> Tensor:
        return self.model.score(window_BU)
