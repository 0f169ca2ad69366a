"""A model that answers with a sequence, as one ONNX graph: what it reads of a request, then a Loop around one step.

Both parts are exported, fused and quantized alone (quantization does not look into a Loop), then
joined. The search is that of `noria.model.generation`, operator by operator.

Shapes: B batch, K beams, P prefix, S source, T tokens so far, V vocabulary, H heads, E dimension of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import torch
from onnx import TensorProto, ValueInfoProto, helper
from torch import Tensor, nn

from noria.config import GenerationConfig
from noria.export.nodes import Nodes, add_part, read_part, share_weights
from noria.model.attention import KeysValues
from noria.model.generation import IMPOSSIBLE, PADDING, Generator, Start, Vocabulary
from noria.scenarios.base import Part, Parts, Tensors

START, STEP = "start", "step"
TOKENS = "tokens"
_PAST_TOKENS = 3  # of the example: any size but those that an exporter takes for constants


class GeneratorModule(Generator, Protocol):
    """A module that generates from what `start` makes of the encoder's tensors, in their order."""

    @property
    def start(self) -> Callable[..., Start]:
        """What is known before the first token."""
        ...


def generation_parts(model: GeneratorModule, example: Tensors, *, config: GenerationConfig) -> Parts:
    """The two parts of a model that generates, and how they become one graph with the output `tokens` int64 (B, T)."""
    inputs = [torch.from_numpy(array) for array in example.values()]
    with torch.inference_mode():
        start = model.start(*inputs)
        past = [
            KeysValues(*(torch.randn(*part.shape[:3], _PAST_TOKENS, part.shape[4]) for part in layer))
            for layer in model.empty_past(start.prefix, num_beams=config.beams)
        ]
    token_BK = start.prefix[:, :1].repeat(1, config.beams)
    memory = _memory(start)
    layers = _layers("past", past)
    step_inputs = {"token": token_BK, "place": torch.tensor([_PAST_TOKENS]), **memory, **layers}
    parts = (
        Part(START, _Start(model), example, ("prefix", "limit", *memory)),
        Part(
            STEP,
            _Step(model, has_source=start.memory_real is not None, num_layers=len(past)),
            {name: tensor.numpy() for name, tensor in step_inputs.items()},
            ("logits", *(f"next_{name}" for name in layers)),
            fixed={"token": (1,), "place": (0,)} | dict.fromkeys(memory, (1, 3)) | dict.fromkeys(layers, (1, 2, 4)),
        ),
    )
    return Parts(parts, partial(join, vocabulary=model.vocabulary, config=config))


class _Start(nn.Module):
    def __init__(self, model: GeneratorModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        start = self.model.start(*inputs)
        return start.prefix, start.limit, *_memory(start).values()


class _Step(nn.Module):
    def __init__(self, model: GeneratorModule, *, has_source: bool, num_layers: int) -> None:
        super().__init__()
        self.model = model
        self.has_source = has_source
        self.num_layers = num_layers

    def forward(self, token_BK: Tensor, place_1: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        past = _pairs(rest[-2 * self.num_layers :])
        memory = rest[: -2 * self.num_layers]
        start = Start(token_BK, place_1, _pairs(memory[1:]), memory[0]) if self.has_source else Start(token_BK, place_1)
        logits_BKV, past = self.model.step(token_BK, place_1, past, start)
        return logits_BKV, *(tensor for layer in past for tensor in layer)


def _memory(start: Start) -> dict[str, Tensor]:
    return {} if start.memory_real is None else {"real": start.memory_real, **_layers("memory", start.memory)}


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


def join(graphs: Mapping[str, Path], target: Path, *, vocabulary: Vocabulary, config: GenerationConfig) -> None:
    """Write one graph: the start, then a Loop of the step and the search, then the best answer's tokens."""
    start, step = (read_part(graphs[name], name) for name in (START, STEP))
    graph, body = Nodes(""), Nodes("body/")
    add_part(graph, start, name=START, inputs={put.name: put.name for put in start.graph.input})
    known = {put.name: f"{START}/{put.name}" for put in start.graph.output}
    states = _first_states(graph, step, known["prefix"], num_beams=config.beams)
    trips = graph.op("ReduceMax", known["limit"], keepdims=0)
    going = graph.constant(np.array(True))
    inputs, outputs = _round(body, step, known, states, vocabulary=vocabulary, config=config)
    share_weights(graph, body)
    rounds = helper.make_graph(body.nodes, "round", inputs, outputs, body.weights)
    finals = [f"final_{name}" for name in states]
    graph.add(helper.make_node("Loop", [trips, going, *states.values()], finals, body=rounds, name="generate"))
    first = graph.constant(np.array(0))
    graph.add(helper.make_node("Gather", ["final_history", first], [TOKENS], axis=1, name="best"))
    answer = helper.make_tensor_value_info(TOKENS, TensorProto.INT64, ["batch", "length"])
    whole = helper.make_graph(graph.nodes, "generator", list(start.graph.input), [answer], graph.weights)
    opsets = {opset.domain: opset.version for part in (start, step) for opset in part.opset_import}
    imports = [helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())]
    onnx.save(
        helper.make_model(whole, opset_imports=imports, ir_version=max(start.ir_version, step.ir_version)), target
    )


def _first_states(graph: Nodes, step: onnx.ModelProto, prefix: str, *, num_beams: int) -> dict[str, str]:
    """What goes round the Loop, by name -> the value that it starts with."""
    batch = graph.op("Shape", prefix, end=1)
    beams = graph.constant(np.array([num_beams]))
    shape_BK = graph.op("Concat", batch, beams, axis=0)
    start_B1 = graph.op("Slice", prefix, *map(graph.constant, ([0], [1], [1])))
    empty_BKT = graph.op("Concat", shape_BK, graph.constant([0]), axis=0)
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    zeros_BK = graph.op("ConstantOfShape", shape_BK, value=zero)
    states = {
        "token": graph.op("Expand", start_B1, shape_BK),
        "history": graph.op("ConstantOfShape", empty_BKT, value=zero),
        "done": graph.op("Cast", zeros_BK, to=TensorProto.BOOL),
    }
    if num_beams > 1:
        first_K = np.full((1, num_beams), IMPOSSIBLE, np.float32)
        first_K[:, 0] = 0.0
        states |= {"score": graph.op("Expand", graph.constant(first_K), shape_BK), "length": zeros_BK}
    for put in step.graph.input:
        if put.name.startswith("past_"):
            heads, dim = (put.type.tensor_type.shape.dim[axis].dim_value for axis in (2, 4))
            shape = graph.op("Concat", shape_BK, graph.constant([heads, 0, dim]), axis=0)
            states[put.name] = graph.op("ConstantOfShape", shape)
    return states


def _round(
    body: Nodes,
    step: onnx.ModelProto,
    known: Mapping[str, str],
    states: Mapping[str, str],
    *,
    vocabulary: Vocabulary,
    config: GenerationConfig,
) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """One round: a step, a choice, and whether to go on; what it takes and gives."""
    now = {name: f"body/now_{name}" for name in states}
    place_1 = body.op("Reshape", "body/round", body.constant([1]))
    add_part(body, step, name=STEP, inputs={"place": place_1, **known, **now})
    next_place = body.op("Add", "body/round", body.constant(np.array(1)))
    only_BK = _only_choice(body, now["done"], known["prefix"], next_place)
    allowed_BKV = body.op("Add", f"{STEP}/logits", body.constant(_hidden(step, vocabulary)))
    past = {name: f"{STEP}/next_{name}" for name in states if name.startswith("past_")}
    if config.beams == 1:
        best_BK = body.op("ArgMax", allowed_BKV, axis=-1, keepdims=0)
        is_given = body.op("GreaterOrEqual", only_BK, body.constant(np.array(0)))
        later = {"token": body.op("Where", is_given, only_BK, best_BK), "history": now["history"], "done": now["done"]}
    else:
        later = _longer_by_beams(body, allowed_BKV, only_BK, now, alpha=config.length_penalty, num_beams=config.beams)
        parent_BK1 = later.pop("parent")
        past = {name: body.op("GatherND", value, parent_BK1, batch_dims=1) for name, value in past.items()}
    token_BK1 = body.op("Unsqueeze", later["token"], body.constant([2]))
    later["history"] = body.op("Concat", later["history"], token_BK1, axis=2)
    later["done"] = _ended(body, later, known["limit"], next_place, end=vocabulary.end)
    unfinished = body.op(
        "Equal",
        body.op("ReduceMin", body.op("Cast", later["done"], to=TensorProto.INT32), keepdims=0),
        body.constant(np.array(0, np.int32)),
    )
    outputs = [unfinished, *({**later, **past}[name] for name in states)]
    inputs = [
        helper.make_tensor_value_info("body/round", TensorProto.INT64, []),
        helper.make_tensor_value_info("body/going", TensorProto.BOOL, []),
        *(helper.make_tensor_value_info(now[name], _KINDS.get(name, TensorProto.FLOAT), None) for name in states),
    ]
    kinds = [TensorProto.BOOL, *(_KINDS.get(name, TensorProto.FLOAT) for name in states)]
    given = [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(outputs, kinds, strict=True)]
    return inputs, given


_KINDS = {
    "token": TensorProto.INT64,
    "history": TensorProto.INT64,
    "length": TensorProto.INT64,
    "done": TensorProto.BOOL,
}


def _hidden(step: onnx.ModelProto, vocabulary: Vocabulary) -> np.ndarray:
    (logits,) = (put for put in step.graph.output if put.name == "logits")
    hidden_V = np.zeros(logits.type.tensor_type.shape.dim[2].dim_value, np.float32)
    hidden_V[[PADDING, *vocabulary.never]] = IMPOSSIBLE
    return hidden_V


def _only_choice(body: Nodes, done_BK: str, prefix_BP: str, next_place: str) -> str:
    one = body.constant(np.array(1))
    width = body.op("Gather", body.op("Shape", prefix_BP), one)
    column = body.op("Min", next_place, body.op("Sub", width, one))
    given_B1 = body.op("Gather", prefix_BP, body.op("Reshape", column, body.constant([1])), axis=1)
    padding = body.constant(np.array(PADDING))
    is_real = body.op("Not", body.op("Equal", given_B1, padding))
    is_given = body.op("And", body.op("Less", next_place, width), is_real)
    free_B1 = body.op("Where", is_given, given_B1, body.constant(np.array(-1)))
    return body.op("Where", done_BK, padding, free_B1)


def _longer_by_beams(
    body: Nodes, allowed_BKV: str, only_BK: str, now: Mapping[str, str], *, alpha: float, num_beams: int
) -> dict[str, str]:
    last, flat = body.constant([2]), body.constant([0, -1])
    is_free = body.op("Less", only_BK, body.constant(np.array(0)))
    size = body.op("Gather", body.op("Shape", allowed_BKV), body.constant(np.array(2)))
    token_V = body.op("Range", body.constant(np.array(0)), size, body.constant(np.array(1)))
    is_it = body.op("Equal", token_V, body.op("Unsqueeze", only_BK, last))
    none, never = body.constant(np.float32(0)), body.constant(np.float32(IMPOSSIBLE))
    only_BKV = body.op("Where", is_it, none, never)
    said_BKV = body.op("LogSoftmax", allowed_BKV, axis=-1)
    said_BKV = body.op("Where", body.op("Unsqueeze", is_free, last), said_BKV, only_BKV)
    total_BKV = body.op("Add", body.op("Unsqueeze", now["score"], last), said_BKV)
    length_BK = body.op("Add", now["length"], body.op("Cast", is_free, to=TensorProto.INT64))
    longer = body.op("Add", body.op("Cast", length_BK, to=TensorProto.FLOAT), body.constant(np.float32(5)))
    sixths = body.op("Div", longer, body.constant(np.float32(6)))
    penalty_BK = body.op("Pow", sixths, body.constant(np.float32(alpha)))
    ranked_BKV = body.op("Div", total_BKV, body.op("Unsqueeze", penalty_BK, last))
    _, place_BK = body.ops("TopK", body.op("Reshape", ranked_BKV, flat), body.constant([num_beams]), num_outputs=2)
    parent_BK = body.op("Div", place_BK, size)
    parent_BK1 = body.op("Unsqueeze", parent_BK, last)
    return {
        "parent": parent_BK1,
        "token": body.op("Mod", place_BK, size),
        "history": body.op("GatherND", now["history"], parent_BK1, batch_dims=1),
        "score": body.op("GatherElements", body.op("Reshape", total_BKV, flat), place_BK, axis=1),
        "length": body.op("GatherElements", length_BK, parent_BK, axis=1),
        "done": body.op("GatherElements", now["done"], parent_BK, axis=1),
    }


def _ended(body: Nodes, later: Mapping[str, str], limit_B: str, next_place: str, *, end: int) -> str:
    one = body.constant([1])
    done_BK = body.op("Or", later["done"], body.op("Equal", later["token"], body.constant(np.array(end))))
    best_B1 = body.op("Slice", done_BK, body.constant([0]), one, one)
    done_BK = body.op("Or", done_BK, best_B1)
    reached_B = body.op("LessOrEqual", limit_B, next_place)
    return body.op("Or", done_BK, body.op("Unsqueeze", reached_B, one))
