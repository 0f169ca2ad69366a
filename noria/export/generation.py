"""A model that answers with a sequence, as one ONNX graph: what it reads of a request, then a Loop around one step.

Both parts are exported, fused and quantized alone (quantization does not look into a Loop), then
joined; so is what judges documents, window by window, where a model does that. The search is that of
`noria.model.generation`, operator by operator.

Shapes: B batch, K beams, P prefix, S source, T tokens so far, V vocabulary, H heads, E dimension of a head.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from noria.config import GenerationConfig
from noria.export.loop import ANGLES, START, STEP, join
from noria.export.runtime import RuntimeDecoder, angles, for_runtime
from noria.model.attention import KeysValues
from noria.model.generation import IMPOSSIBLE, PADDING, Generator, Start, Vocabulary
from noria.model.heads import TiedHead
from noria.scenarios.base import Part, Parts, Tensors

_PAST_TOKENS, _MOST_PLACES = 3, 9  # of the example: any sizes but those that an exporter takes for constants
_SEEN_ROUNDS = 4  # of an answer, for a form that has to see numbers


Module = TypeVar("Module")


class GeneratorModule(Generator, Protocol):
    """A module that generates from what `start` makes of the encoder's tensors, in their order."""

    @property
    def start(self) -> Callable[..., Start]:
        """What is known before the first token."""
        ...


def generation_parts(
    model: GeneratorModule,
    example: Tensors,
    *,
    config: GenerationConfig,
    sampled: bool = False,
    judge: Part | None = None,
) -> Parts:
    """The two parts of a model that generates, and how they become one graph with the output `tokens` int64 (B, T).

    Parameters
    ----------
    example:
        What `model.start` takes.
    sampled:
        Whether tokens are drawn (without beams): the graph then has the inputs of `SAMPLING` as well.
    judge:
        A part that is to be in the same graph: its one input is there with one more axis, the second, along which
        it is applied; so are its outputs.
    """
    with torch.inference_mode():
        start = model.start(*(torch.from_numpy(array) for array in example.values()))
        past = [
            KeysValues(*(torch.randn(*part.shape[:2], _PAST_TOKENS, part.shape[3]) for part in layer))
            for layer in model.empty_past(start.prefix, num_beams=config.beams)
        ]
    token_BK = start.prefix[:, :1].repeat(1, config.beams)
    made = for_runtime(model, packs=True)
    memory, read, layers = _memory(start), _layers("read", start.read), _layers("past", past)
    later = [f"next_{name}" for name in layers]
    step = _Step(_hiding(made, model.vocabulary), num_memory=len(memory), num_past=len(layers))
    inputs = partial(_step_inputs, is_rotary=step.is_rotary)
    step_inputs = inputs(token_BK, torch.tensor([_PAST_TOKENS]), past, start, num_places=_MOST_PLACES)
    parts = (
        Part(START, _Start(made), example, ("prefix", "limit", *memory, *read), inner=(*memory, *read)),
        Part(
            STEP,
            step,
            step_inputs,
            ("logits", *later),
            fixed={"token": (1,), "place": (0,)}
            | dict.fromkeys(_layers("memory", start.memory), (1, 3))
            | dict.fromkeys(layers, (1, 3))
            | dict.fromkeys((name for name in ANGLES if step.is_rotary), (1,)),
            inner=(*memory, *layers, *later, *ANGLES),
        ),
    )
    joined = partial(join, vocabulary=model.vocabulary, config=config, sampled=sampled, judge=judge)
    seen = partial(_seen, model, names=tuple(example), step_inputs=inputs)
    return Parts(parts if judge is None else (*parts, judge), joined, seen)


def _step_inputs(
    token_BK: Tensor,
    place_1: Tensor,
    past: Sequence[KeysValues],
    start: Start,
    *,
    num_places: int = 0,
    is_rotary: bool,
) -> Tensors:
    """What the graph of a step takes, by name; with the angles of so many places, or of all up to this one."""
    turns = angles(num_places or int(place_1) + 1, past[0].keys.shape[3]) if is_rotary else ()
    layers = {**_memory(start), **_layers("past", past), **dict(zip(ANGLES, turns, strict=False))}
    return {name: tensor.numpy() for name, tensor in {"token": token_BK, "place": place_1, **layers}.items()}


def _seen(
    model: GeneratorModule, batch: Tensors, *, names: Sequence[str], step_inputs: Callable[..., Tensors]
) -> Mapping[str, Sequence[Tensors]]:
    """What both parts are given as `model` answers a batch; of all rounds, some from the first to the last."""
    rounds: list[Tensors] = []

    def step(
        token_BK: Tensor, place_1: Tensor, past: Sequence[KeysValues], start: Start
    ) -> tuple[Tensor, list[KeysValues]]:
        rounds.append(step_inputs(token_BK, place_1, past, start))
        return model.step(token_BK, place_1, past, start)

    heard = copy.copy(model)  # of the same weights
    heard.step = step  # type: ignore[method-assign]
    assert isinstance(heard, nn.Module)
    with torch.inference_mode():
        heard(**{name: torch.from_numpy(array) for name, array in batch.items()})
    chosen = {round(place) for place in np.linspace(0, len(rounds) - 1, _SEEN_ROUNDS)} if rounds else ()
    return {START: [{name: batch[name] for name in names}], STEP: [rounds[place] for place in sorted(chosen)]}


def _hiding(model: Module, vocabulary: Vocabulary) -> Module:
    """A copy that never says what is never a token: its bias says so, and no round has to."""
    model = copy.deepcopy(model)
    assert isinstance(model, nn.Module)
    for head in (module for module in model.modules() if isinstance(module, TiedHead)):
        with torch.no_grad():
            head.bias[[PADDING, *vocabulary.never]] = IMPOSSIBLE
    return model


class _Start(nn.Module):
    def __init__(self, model: GeneratorModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        start = self.model.start(*inputs)
        return start.prefix, start.limit, *_memory(start).values(), *_layers("read", start.read).values()


class _Step(nn.Module):
    """One step of a model made for the runtime: the token and its place, memory, past and angles, each if any."""

    def __init__(self, model: GeneratorModule, *, num_memory: int, num_past: int) -> None:
        super().__init__()
        self.model = model
        self.decoders = [module for module in self.modules() if isinstance(module, RuntimeDecoder)]
        self.is_rotary = any(decoder.is_rotary for decoder in self.decoders)
        self.num_memory = num_memory
        self.num_past = num_past

    def forward(self, token_BK: Tensor, place_1: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        memory, rest = rest[: self.num_memory], rest[self.num_memory :]
        past, turns = _pairs(rest[: self.num_past]), rest[self.num_past :]
        for decoder in self.decoders:
            decoder.turns = turns
        start = Start(token_BK, place_1, _pairs(memory[1:]), memory[0]) if memory else Start(token_BK, place_1)
        logits_BKV, past = self.model.step(token_BK, place_1, past, start)
        return logits_BKV, *(tensor for layer in past for tensor in layer)


def _memory(start: Start) -> dict[str, Tensor]:
    return {} if start.memory_real is None else {"real": start.memory_real.int(), **_layers("memory", start.memory)}


def _layers(name: str, layers: Sequence[KeysValues]) -> dict[str, Tensor]:
    """Every tensor by name: `past_keys_0`, `past_values_0`, `past_keys_1` …"""
    named = (
        (f"{name}_{part}_{number}", tensor)
        for number, layer in enumerate(layers)
        for part, tensor in zip(KeysValues._fields, layer, strict=True)
    )
    return dict(named)


def _pairs(tensors: tuple[Tensor, ...]) -> list[KeysValues]:
    return [KeysValues(*tensors[i : i + 2]) for i in range(0, len(tensors), 2)]
