"""A model that answers with a sequence, as one ONNX graph: what it reads of a request, then a Loop around one step.

Both parts are exported, fused and quantized alone (quantization does not look into a Loop), then
joined; so is what judges documents, window by window, where a model does that. The search is that of
`noria.model.generation`, operator by operator.

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
from noria.export.search import allowed_tokens, drawn, ended, longer_by_beams, only_choice
from noria.model.attention import KeysValues
from noria.model.generation import IMPOSSIBLE, PADDING, Generator, Start, Vocabulary
from noria.scenarios.base import Part, Parts, Tensors

START, STEP = "start", "step"
TOKENS = "tokens"
SAMPLING = ("temperature", "top_k", "top_p", "uniform")
_PAST_TOKENS = 3  # of the example: any size but those that an exporter takes for constants


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
        Part(START, _Start(model), example, ("prefix", "limit", *memory, *_layers("read", start.read))),
        Part(
            STEP,
            _Step(model, has_source=start.memory_real is not None, num_layers=len(past)),
            {name: tensor.numpy() for name, tensor in step_inputs.items()},
            ("logits", *(f"next_{name}" for name in layers)),
            fixed={"token": (1,), "place": (0,)} | dict.fromkeys(memory, (1, 3)) | dict.fromkeys(layers, (1, 2, 4)),
        ),
    )
    joined = partial(join, vocabulary=model.vocabulary, config=config, sampled=sampled, judge=judge)
    return Parts(parts if judge is None else (*parts, judge), joined)


class _Start(nn.Module):
    def __init__(self, model: GeneratorModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        start = self.model.start(*inputs)
        return start.prefix, start.limit, *_memory(start).values(), *_layers("read", start.read).values()


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


def join(
    graphs: Mapping[str, Path],
    target: Path,
    *,
    vocabulary: Vocabulary,
    config: GenerationConfig,
    sampled: bool = False,
    judge: Part | None = None,
) -> None:
    """Write one graph: the start, then a Loop of the step and the search, then the best answer's tokens."""
    start, step = (read_part(graphs[name], name) for name in (START, STEP))
    graph, body = Nodes(""), Nodes("body/")
    add_part(graph, start, name=START, inputs={put.name: put.name for put in start.graph.input})
    known = {put.name: f"{START}/{put.name}" for put in start.graph.output}
    known |= {name: name for name in SAMPLING if sampled and config.beams == 1}
    known |= _places(graph, known)
    states = _first_states(graph, step, known, num_beams=config.beams)
    going = graph.constant(np.array(True))
    inputs, outputs = _round(body, step, known, states, vocabulary=vocabulary, config=config)
    puts, answers, parts = list(start.graph.input), [_int64(TOKENS, "batch", "length")], [start, step]
    if judge is not None:
        parts.append(read_part(graphs[judge.name], judge.name))
        add_judge(graph, parts[-1], judge)
        puts.append(_int64(*_along(judge)))
        answers += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in judge.outputs]
    share_weights(graph, body)
    rounds = helper.make_graph(body.nodes, "round", inputs, outputs, body.weights)
    finals = [f"final_{name}" for name in states]
    graph.add(helper.make_node("Loop", [known["trips"], going, *states.values()], finals, body=rounds, name="generate"))
    first = graph.constant(np.array(0))
    graph.add(helper.make_node("Gather", ["final_history", first], [TOKENS], axis=1, name="best"))
    puts += [_SAMPLING_INPUTS[name] for name in SAMPLING if sampled]
    whole = helper.make_graph(graph.nodes, "generator", puts, answers, graph.weights)
    opsets = {opset.domain: opset.version for part in parts for opset in part.opset_import}
    imports = [helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())]
    newest = max(part.ir_version for part in parts)
    onnx.save(helper.make_model(whole, opset_imports=imports, ir_version=newest), target)


def _int64(name: str, *sizes: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(sizes))


_SAMPLING_INPUTS = {
    "temperature": helper.make_tensor_value_info("temperature", TensorProto.FLOAT, ["batch"]),
    "top_k": _int64("top_k", "batch"),
    "top_p": helper.make_tensor_value_info("top_p", TensorProto.FLOAT, ["batch"]),
    "uniform": helper.make_tensor_value_info("uniform", TensorProto.FLOAT, ["batch", "draws"]),
}


def _along(judge: Part) -> tuple[str, ...]:
    """The graph's input that a part is applied along, and the names of its sizes."""
    (name,) = judge.inputs
    return f"{name}s", "batch", f"{name}s_1", f"{name}s_2"


def add_judge(graph: Nodes, part: onnx.ModelProto, judge: Part) -> None:
    """Append a Loop that applies a part along the second axis of its input; there must be at least one.

    Rows that are all padding there are left out, but for the first, and have zeros.
    """
    (name,) = judge.inputs
    along = _along(judge)[0]
    body = Nodes("judge/")
    one = body.op("Gather", along, "judge/number", axis=1)
    row_N1, batch = _real_rows(body, one)
    add_part(body, part, name=judge.name, inputs={name: body.op("GatherND", one, row_N1)})
    each = []
    for output in judge.outputs:
        said = f"{judge.name}/{output}"
        shape = body.op("Concat", batch, body.op("Shape", said, start=1), axis=0)
        each.append(body.op("ScatterND", body.op("ConstantOfShape", shape), row_N1, said))
    going = body.op("Identity", "judge/going")
    share_weights(graph, body)
    graph.weights.extend(body.weights)  # what the other Loop has as well is then found here
    rounds = helper.make_graph(
        body.nodes,
        "judge",
        [
            helper.make_tensor_value_info("judge/number", TensorProto.INT64, []),
            helper.make_tensor_value_info("judge/going", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(value, TensorProto.FLOAT, [None, None]) for value in each),
        ],
    )
    trips = graph.op("Gather", graph.op("Shape", along), graph.constant(np.array(1)))
    stacked = [f"stacked_{output}" for output in judge.outputs]
    graph.add(helper.make_node("Loop", [trips, graph.constant(np.array(True))], stacked, body=rounds, name="judge"))
    for output, value in zip(judge.outputs, stacked, strict=True):
        graph.add(helper.make_node("Transpose", [value], [output], perm=[1, 0, 2], name=f"turn_{output}"))


def _real_rows(body: Nodes, tokens: str) -> tuple[str, str]:
    """The first row and those with a token, (N, 1); and the number of all, (1)."""
    zero, one = body.constant(np.array(0)), body.constant(np.array(1))
    batch = body.op("Shape", tokens, end=1)
    is_first = body.op("Equal", body.op("Range", zero, body.op("Squeeze", batch), one), zero)
    is_real = body.op("Greater", body.op("ReduceMax", tokens, body.constant([1]), keepdims=0), zero)
    return body.op("Transpose", body.op("NonZero", body.op("Or", is_first, is_real))), batch


def _places(graph: Nodes, known: Mapping[str, str]) -> dict[str, str]:
    """Tokens of each prefix (`num_given`), the place of the first step and the number of steps."""
    padding = graph.constant(np.array(PADDING))
    is_given = graph.op("Cast", graph.op("Not", graph.op("Equal", known["prefix"], padding)), to=TensorProto.INT64)
    num_given = graph.op("ReduceSum", is_given, graph.constant([1]), keepdims=0)
    first, one = graph.constant(np.array(0)), graph.constant(np.array(1))
    if any(name.startswith("read_") for name in known):
        first = graph.op("Sub", graph.op("ReduceMin", num_given, keepdims=0), one)
    trips = graph.op("Sub", graph.op("ReduceMax", known["limit"], keepdims=0), first)
    trips = graph.op("Max", trips, graph.constant(np.array(0)))
    return {"num_given": num_given, "first": first, "trips": trips}


def _first_states(graph: Nodes, step: onnx.ModelProto, known: Mapping[str, str], *, num_beams: int) -> dict[str, str]:
    """What goes round the Loop, by name -> the value that it starts with."""
    prefix, one = known["prefix"], graph.constant([1])
    first_1 = graph.op("Reshape", known["first"], one)
    batch = graph.op("Shape", prefix, end=1)
    shape_BK = graph.op("Concat", batch, graph.constant(np.array([num_beams])), axis=0)
    given = graph.op("Slice", prefix, one, graph.op("Add", first_1, one), one)
    shape_BKT = graph.op("Concat", shape_BK, first_1, axis=0)
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    is_over = graph.op("LessOrEqual", known["limit"], known["first"])
    states = {
        "token": graph.op("Expand", graph.op("Gather", prefix, first_1, axis=1), shape_BK),
        "history": graph.op("Expand", graph.op("Unsqueeze", given, one), shape_BKT),
        "done": graph.op("Expand", graph.op("Unsqueeze", is_over, one), shape_BK),
    }
    if num_beams > 1:
        first_K = np.full((1, num_beams), IMPOSSIBLE, np.float32)
        first_K[:, 0] = 0.0
        zeros_BK = graph.op("ConstantOfShape", shape_BK, value=zero)
        states |= {"score": graph.op("Expand", graph.constant(first_K), shape_BK), "length": zeros_BK}
    for put in step.graph.input:
        if not put.name.startswith("past_"):
            continue
        read = known.get(put.name.replace("past_", "read_", 1))
        if read is None:
            heads, dim = (put.type.tensor_type.shape.dim[axis].dim_value for axis in (2, 4))
            shape = graph.op("Concat", shape_BK, graph.constant([heads, 0, dim]), axis=0)
            states[put.name] = graph.op("ConstantOfShape", shape)
        else:
            part_BHPE = graph.op("Slice", read, graph.constant([0]), first_1, graph.constant([2]))
            part_B1HPE = graph.op("Unsqueeze", part_BHPE, one)
            states[put.name] = graph.op("Expand", part_B1HPE, graph.constant([1, num_beams, 1, 1, 1]))
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
    place = body.op("Add", "body/round", known["first"])
    add_part(body, step, name=STEP, inputs={"place": body.op("Reshape", place, body.constant([1])), **known, **now})
    next_place = body.op("Add", place, body.constant(np.array(1)))
    only_BK = only_choice(body, now["done"], known["prefix"], next_place)
    allowed_BKV = allowed_tokens(body, step, f"{STEP}/logits", vocabulary)
    past = {name: f"{STEP}/next_{name}" for name in states if name.startswith("past_")}
    if config.beams == 1:
        best_BK = body.op("ArgMax", allowed_BKV, axis=-1, keepdims=0)
        if "uniform" in known:
            number_B = body.op("Sub", next_place, known["num_given"])
            best_BK = drawn(body, allowed_BKV, best_BK, number_B, known)
        is_given = body.op("GreaterOrEqual", only_BK, body.constant(np.array(0)))
        later = {"token": body.op("Where", is_given, only_BK, best_BK), "history": now["history"], "done": now["done"]}
    else:
        later = longer_by_beams(body, allowed_BKV, only_BK, now, alpha=config.length_penalty, num_beams=config.beams)
        parent_BK1 = later.pop("parent")
        past = {name: body.op("GatherND", value, parent_BK1, batch_dims=1) for name, value in past.items()}
    token_BK1 = body.op("Unsqueeze", later["token"], body.constant([2]))
    later["history"] = body.op("Concat", later["history"], token_BK1, axis=2)
    later["done"] = ended(body, later, known["limit"], next_place, end=vocabulary.end)
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
