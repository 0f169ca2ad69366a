"""The graph of a model that generates: what it reads of a request, then a Loop of stages, then the best answers.

A stage is a Loop of rounds, and a round one step of every row and one choice. When one in sixteen of a stage's
rows has ended it is over, and the next goes on without them: a row costs nothing once it has ended, and what the
rows read of their sources is only copied then, not at every round.

Shapes: B rows of the request, N rows that still go, K beams, P prefix, S source, T tokens so far, V vocabulary,
H heads, E dimension of a head.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper

from noria.config import GenerationConfig
from noria.export.judge import add_judge, along
from noria.export.nodes import Nodes, add_part, read_part, share_weights
from noria.export.search import drawn, ended, longer_by_beams, only_choice
from noria.model.generation import IMPOSSIBLE, PADDING, Vocabulary
from noria.scenarios.base import Part

START, STEP = "start", "step"
TOKENS = "tokens"
SAMPLING = ("temperature", "top_k", "top_p", "uniform")
ANGLES = ("cos", "sin")
_STAGE_SHARE = 16  # one row in so many has ended: a stage is over
_KINDS = {
    **dict.fromkeys(("token", "history", "length", "row", "answers"), TensorProto.INT64),
    **dict.fromkeys(("limit", "prefix", "num_given", "top_k"), TensorProto.INT64),
    "done": TensorProto.BOOL,
}


def join(
    graphs: Mapping[str, Path],
    target: Path,
    *,
    vocabulary: Vocabulary,
    config: GenerationConfig,
    sampled: bool = False,
    judge: Part | None = None,
) -> None:
    """Write one graph of the parts."""
    start, step = (read_part(graphs[name], name) for name in (START, STEP))
    graph = Nodes("")
    add_part(graph, start, name=START, inputs={put.name: put.name for put in start.graph.input})
    known = {put.name: f"{START}/{put.name}" for put in start.graph.output}
    known |= {name: name for name in SAMPLING if sampled and config.beams == 1}
    known |= _places(graph, known)
    known |= _angles(graph, known, step)
    parts, puts, answers = [start, step], list(start.graph.input), [_int64(TOKENS, "batch", "length")]
    if judge is not None:
        parts.append(read_part(graphs[judge.name], judge.name))
        add_judge(graph, parts[-1], judge)
        puts.append(_int64(*along(judge)))
        answers += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3) for name in judge.outputs]
    unread = [] if "uniform" in known else ["num_given"]
    if _width(start, "prefix") == 1:  # one token, which is read before the first choice
        unread.append("prefix")
    _add_stages(graph, step, known, unread=unread, vocabulary=vocabulary, config=config)
    puts += [_SAMPLING_INPUTS[name] for name in SAMPLING if sampled]
    whole = helper.make_graph(graph.nodes, "generator", puts, answers, graph.weights)
    opsets = {opset.domain: opset.version for part in parts for opset in part.opset_import}
    imports = [helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())]
    newest = max(part.ir_version for part in parts)
    onnx.save(helper.make_model(whole, opset_imports=imports, ir_version=newest), target)


def _width(part: onnx.ModelProto, name: str) -> int:
    """The second size of an output; 0 where it is open."""
    (put,) = (put for put in part.graph.output if put.name == name)
    return int(put.type.tensor_type.shape.dim[1].dim_value)


def _int64(name: str, *sizes: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(sizes))


_SAMPLING_INPUTS = {
    "temperature": helper.make_tensor_value_info("temperature", TensorProto.FLOAT, ["batch"]),
    "top_k": _int64("top_k", "batch"),
    "top_p": helper.make_tensor_value_info("top_p", TensorProto.FLOAT, ["batch"]),
    "uniform": helper.make_tensor_value_info("uniform", TensorProto.FLOAT, ["batch", "draws"]),
}


def _places(graph: Nodes, known: Mapping[str, str]) -> dict[str, str]:
    """Tokens of each prefix (`num_given`), the place of the first step and that behind the last."""
    padding = graph.constant(np.array(PADDING))
    is_given = graph.op("Cast", graph.op("Not", graph.op("Equal", known["prefix"], padding)), to=TensorProto.INT64)
    num_given = graph.op("ReduceSum", is_given, graph.constant([1]), keepdims=0)
    first, one = graph.constant(np.array(0)), graph.constant(np.array(1))
    if any(name.startswith("read_") for name in known):
        first = graph.op("Sub", graph.op("ReduceMin", num_given, keepdims=0), one)
    end = graph.op("Max", graph.op("ReduceMax", known["limit"], keepdims=0), first)
    return {"num_given": num_given, "first": first, "end": end}


def _angles(graph: Nodes, known: Mapping[str, str], step: onnx.ModelProto) -> dict[str, str]:
    """Cosines and sines of all places that there may be, where the step turns its queries and keys by them."""
    types = {put.name: put.type.tensor_type for put in step.graph.input if put.name in ANGLES}
    if not types:
        return {}
    num_pairs, kind = types[ANGLES[0]].shape.dim[1].dim_value, types[ANGLES[0]].elem_type
    frequency = (10_000.0 ** (-np.arange(num_pairs) / num_pairs)).astype(np.float32)
    one = graph.constant(np.array(1))
    place_L = graph.op("Range", graph.constant(np.array(0)), graph.op("Add", known["end"], one), one)
    place_L1 = graph.op("Unsqueeze", graph.op("Cast", place_L, to=TensorProto.FLOAT), graph.constant([1]))
    angle_LE = graph.op("Mul", place_L1, graph.constant(frequency))
    return {name: graph.op("Cast", graph.op(name.capitalize(), angle_LE), to=kind) for name in ANGLES}


def _add_stages(
    graph: Nodes,
    step: onnx.ModelProto,
    known: Mapping[str, str],
    *,
    unread: Collection[str],
    vocabulary: Vocabulary,
    config: GenerationConfig,
) -> None:
    """Append the Loop of stages, which leaves `unread` what no round needs; its answers are the output `tokens`."""
    given = _of_rows(known, unread=unread)
    states = _first_states(graph, step, known, num_beams=config.beams)
    zero, one = graph.constant(np.array(0)), graph.constant(np.array(1))
    batch = graph.op("Shape", known["prefix"], end=1)
    none_B0 = graph.op("ConstantOfShape", graph.op("Concat", batch, graph.constant([0]), axis=0), value=_ZERO)
    rows = {"row": graph.op("Range", zero, graph.op("Squeeze", batch), one), "answers": none_B0}
    carried = {**rows, **given, **states}
    stage = Nodes("stage/", inside=graph)
    now = {name: f"stage/now_{name}" for name in carried}
    inside = {name: value for name, value in known.items() if name not in _OF_ROWS} | {
        name: now[name] for name in given
    }
    finals = _add_rounds(
        stage, step, inside, {name: now[name] for name in states}, vocabulary=vocabulary, config=config
    )
    outputs = [*_without_ended(stage, {**now, **finals}, num_beams=config.beams).values()]
    share_weights(stage)
    kinds = _kinds(step)
    body = helper.make_graph(
        stage.nodes, "stage", _loop_inputs("stage", now, kinds), _loop_outputs(outputs, carried, kinds), stage.weights
    )
    names = [TOKENS if name == "answers" else f"final_{name}" for name in carried]
    most = graph.constant(np.array(np.iinfo(np.int64).max))
    going = graph.constant(np.array(True))
    graph.add(helper.make_node("Loop", [most, going, *carried.values()], names, body=body, name="generate"))


_ZERO = helper.make_tensor("zero", TensorProto.INT64, [1], [0])


_OF_ROWS = ("prefix", "limit", "num_given", "real", *SAMPLING)


def _of_rows(known: Mapping[str, str], *, unread: Collection[str]) -> dict[str, str]:
    """What there is of each row and does not change: it is left behind with the row."""
    return {
        name: value
        for name, value in known.items()
        if (name in _OF_ROWS or name.startswith("memory_")) and name not in unread
    }


def _first_states(graph: Nodes, step: onnx.ModelProto, known: Mapping[str, str], *, num_beams: int) -> dict[str, str]:
    """What goes round the Loop, by name -> the value that it starts with."""
    prefix, one = known["prefix"], graph.constant([1])
    first_1, beams_1 = graph.op("Reshape", known["first"], one), graph.constant([num_beams])
    batch = graph.op("Shape", prefix, end=1)
    shape_BK = graph.op("Concat", batch, beams_1, axis=0)
    given = graph.op("Slice", prefix, one, graph.op("Add", first_1, one), one)
    shape_BKT = graph.op("Concat", shape_BK, first_1, axis=0)
    is_over = graph.op("LessOrEqual", known["limit"], known["first"])
    states = {
        "token": graph.op("Expand", graph.op("Gather", prefix, first_1, axis=1), shape_BK),
        "history": graph.op("Expand", graph.op("Unsqueeze", given, one), shape_BKT),
        "done": graph.op("Expand", graph.op("Unsqueeze", is_over, one), shape_BK),
    }
    if num_beams > 1:
        first_K = np.full((1, num_beams), IMPOSSIBLE, np.float32)
        first_K[:, 0] = 0.0
        zeros_BK = graph.op("ConstantOfShape", shape_BK, value=_ZERO)
        states |= {"score": graph.op("Expand", graph.constant(first_K), shape_BK), "length": zeros_BK}
    for put in step.graph.input:
        if not put.name.startswith("past_"):
            continue
        read = known.get(put.name.replace("past_", "read_", 1))
        if read is None:
            heads, dim = (put.type.tensor_type.shape.dim[axis].dim_value for axis in (1, 3))
            shape = graph.op("Concat", graph.op("Mul", batch, beams_1), graph.constant([heads, 0, dim]), axis=0)
            none = helper.make_tensor("none", put.type.tensor_type.elem_type, [1], [0])
            states[put.name] = graph.op("ConstantOfShape", shape, value=none)
            continue
        if num_beams > 1:
            read_BKHPE = graph.op("Expand", graph.op("Unsqueeze", read, one), graph.constant([1, num_beams, 1, 1, 1]))
            sizes = graph.op("Concat", graph.constant([-1]), graph.op("Shape", read, start=1), axis=0)
            read = graph.op("Reshape", read_BKHPE, sizes)
        states[put.name] = graph.op("Slice", read, graph.constant([0]), first_1, graph.constant([2]))
    return states


def _add_rounds(
    stage: Nodes,
    step: onnx.ModelProto,
    known: Mapping[str, str],
    states: Mapping[str, str],
    *,
    vocabulary: Vocabulary,
    config: GenerationConfig,
) -> dict[str, str]:
    """Append the Loop of rounds; the names of the states behind it."""
    place_1, one = stage.op("Shape", states["history"], start=2), stage.constant([1])
    num_rows = stage.op("Squeeze", stage.op("Shape", states["done"], end=1))
    parts = stage.constant(np.array(_STAGE_SHARE))
    most_done = stage.op("Div", stage.op("Add", num_rows, stage.constant(np.array(_STAGE_SHARE - 1))), parts)
    trips = stage.op("Squeeze", stage.op("Sub", known["end"], place_1))
    going = stage.constant(np.array(True))
    body, now = Nodes("body/", inside=stage), {name: f"body/now_{name}" for name in states}
    known = {
        **known,
        "limit": stage.op("Unsqueeze", known["limit"], one),
        "place": body.op("Shape", now["history"], start=2),  # on a GPU, too, sizes are known to the CPU
    }
    later = _round(body, step, known, now, vocabulary=vocabulary, config=config)
    done_N1 = later["done"]
    if config.beams > 1:  # the best of a row is the last of its beams to be done
        done_N1 = body.op("Gather", done_N1, body.constant([0]), axis=1)
    num_done = body.op("ReduceSum", body.op("Cast", done_N1, to=TensorProto.INT64), keepdims=0)
    outputs = [body.op("Less", num_done, most_done), *(later[name] for name in states)]
    share_weights(body)
    kinds = _kinds(step)
    rounds = helper.make_graph(
        body.nodes, "round", _loop_inputs("body", now, kinds), _loop_outputs(outputs, states, kinds), body.weights
    )
    finals = {name: f"stage/final_{name}" for name in states}
    stage.add(
        helper.make_node("Loop", [trips, going, *states.values()], list(finals.values()), body=rounds, name="rounds")
    )
    return finals


def _round(
    body: Nodes,
    step: onnx.ModelProto,
    known: Mapping[str, str],
    now: Mapping[str, str],
    *,
    vocabulary: Vocabulary,
    config: GenerationConfig,
) -> dict[str, str]:
    """One round: a step and a choice; what the states are then."""
    add_part(body, step, name=STEP, inputs={**known, **now})
    next_place = body.op("Add", known["place"], body.constant([1]))
    logits_NKV = f"{STEP}/logits"
    past = {name: f"{STEP}/next_{name}" for name in now if name.startswith("past_")}
    if config.beams == 1:
        best_N1 = body.op("ArgMax", logits_NKV, axis=-1, keepdims=0)
        if "uniform" in known:
            number_N = body.op("Sub", next_place, known["num_given"])
            best_N1 = drawn(body, logits_NKV, best_N1, number_N, known)
        is_given, only_N1 = now["done"], body.constant(np.array(PADDING))
        if "prefix" in known:
            only_N1 = only_choice(body, now["done"], known["prefix"], next_place)
            is_given = body.op("GreaterOrEqual", only_N1, body.constant(np.array(0)))
        later = {"token": body.op("Where", is_given, only_N1, best_N1), "history": now["history"], "done": now["done"]}
    else:
        only_NK = only_choice(body, now["done"], known.get("prefix"), next_place)
        later = longer_by_beams(body, logits_NKV, only_NK, now, alpha=config.length_penalty, num_beams=config.beams)
        parent = later.pop("parent")
        past = {name: body.op("Gather", value, parent) for name, value in past.items()}
    token_NK1 = body.op("Unsqueeze", later["token"], body.constant([2]))
    later["history"] = body.op("Concat", later["history"], token_NK1, axis=2)
    later["done"] = ended(body, later, known["limit"], next_place, end=vocabulary.end, num_beams=config.beams)
    return {**later, **past}


def _without_ended(stage: Nodes, now: Mapping[str, str], *, num_beams: int) -> dict[str, str]:
    """Whether to go on, the answers so far, and everything of the rows that still go."""
    zero, minus = stage.constant([0]), stage.constant([-1])
    said_NT = stage.op("Gather", now["history"], stage.constant(np.array(0)), axis=1)
    batch = stage.op("Shape", now["answers"], end=1)
    more = stage.op("Sub", stage.op("Shape", said_NT, start=1), stage.op("Shape", now["answers"], start=1))
    padding = stage.op("ConstantOfShape", stage.op("Concat", batch, more, axis=0), value=_ZERO)
    answers_BT = stage.op("Concat", now["answers"], padding, axis=1)
    answers_BT = stage.op("ScatterND", answers_BT, stage.op("Unsqueeze", now["row"], minus), said_NT)
    done_N = stage.op("Gather", now["done"], stage.constant(np.array(0)), axis=1)
    going_N = stage.op("Squeeze", stage.op("NonZero", stage.op("Not", done_N)), zero)
    going_NK = going_N
    if num_beams > 1:
        first_N1 = stage.op("Unsqueeze", stage.op("Mul", going_N, stage.constant(np.array(num_beams))), minus)
        going_NK = stage.op("Reshape", stage.op("Add", first_N1, stage.constant(np.arange(num_beams))), minus)
    kept = {
        name: answers_BT
        if name == "answers"
        else stage.op("Gather", value, going_NK if name.startswith("past_") else going_N)
        for name, value in now.items()
    }
    any_left = stage.op("Greater", stage.op("Size", going_N), stage.constant(np.array(0)))
    return {"any left": any_left, **kept}


def _kinds(step: onnx.ModelProto) -> dict[str, int]:
    """The element type of what goes round, by name, where it is not float32: what only the steps see is as they are."""
    return {put.name: put.type.tensor_type.elem_type for put in step.graph.input} | _KINDS


def _loop_inputs(prefix: str, now: Mapping[str, str], kinds: Mapping[str, int]) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(f"{prefix}/round", TensorProto.INT64, []),
        helper.make_tensor_value_info(f"{prefix}/going", TensorProto.BOOL, []),
        *(_value(value, name, kinds) for name, value in now.items()),
    ]


def _loop_outputs(outputs: list[str], names: Iterable[str], kinds: Mapping[str, int]) -> list[ValueInfoProto]:
    going, *values = outputs
    states = (_value(value, name, kinds) for value, name in zip(values, names, strict=True))
    return [helper.make_tensor_value_info(going, TensorProto.BOOL, []), *states]


def _value(value: str, name: str, kinds: Mapping[str, int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(value, kinds.get(name, TensorProto.FLOAT), None)
