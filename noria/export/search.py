"""The search of `noria.model.generation`, operator by operator: what a round of its Loop decides.

Shapes: B batch, K beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from noria.export.nodes import Nodes
from noria.model.generation import COLD, IMPOSSIBLE, PADDING, SMALLEST, Vocabulary


def allowed_tokens(body: Nodes, step: onnx.ModelProto, logits_BKV: str, vocabulary: Vocabulary) -> str:
    """The logits, without those of tokens that are never one."""
    (logits,) = (put for put in step.graph.output if put.name == "logits")
    hidden_V = np.zeros(logits.type.tensor_type.shape.dim[2].dim_value, np.float32)
    hidden_V[[PADDING, *vocabulary.never]] = IMPOSSIBLE
    return body.op("Add", logits_BKV, body.constant(hidden_V))


def only_choice(body: Nodes, done_BK: str, prefix_BP: str, next_place: str) -> str:
    """The only token that may come, (B, K): padding behind the end, the prefix's while it lasts; else -1."""
    one = body.constant(np.array(1))
    width = body.op("Gather", body.op("Shape", prefix_BP), one)
    column = body.op("Min", next_place, body.op("Sub", width, one))
    given_B1 = body.op("Gather", prefix_BP, body.op("Reshape", column, body.constant([1])), axis=1)
    padding = body.constant(np.array(PADDING))
    is_real = body.op("Not", body.op("Equal", given_B1, padding))
    is_given = body.op("And", body.op("Less", next_place, width), is_real)
    free_B1 = body.op("Where", is_given, given_B1, body.constant(np.array(-1)))
    return body.op("Where", done_BK, padding, free_B1)


def longer_by_beams(
    body: Nodes, allowed_BKV: str, only_BK: str, now: Mapping[str, str], *, alpha: float, num_beams: int
) -> dict[str, str]:
    """The best continuations of all beams of a row together, and which beam each comes from."""
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


def ended(body: Nodes, later: Mapping[str, str], limit_B: str, next_place: str, *, end: int) -> str:
    """A beam is done when it ends; all of a row are when the best is, or no token more may come."""
    one = body.constant([1])
    done_BK = body.op("Or", later["done"], body.op("Equal", later["token"], body.constant(np.array(end))))
    best_B1 = body.op("Slice", done_BK, body.constant([0]), one, one)
    done_BK = body.op("Or", done_BK, best_B1)
    reached_B = body.op("LessOrEqual", limit_B, next_place)
    return body.op("Or", done_BK, body.op("Unsqueeze", reached_B, one))


def drawn(body: Nodes, allowed_BKV: str, best_BK: str, number_B: str, known: Mapping[str, str]) -> str:
    """The token (B, 1) at which the probabilities of those allowed pass the draw; one beam."""
    axis, none = body.constant([1]), body.constant(np.float32(0))
    hot_B1, top_k_B1, top_p_B1 = (body.op("Unsqueeze", known[name], axis) for name in ("temperature", "top_k", "top_p"))
    top_p_B1 = body.op("Max", top_p_B1, body.constant(np.float32(SMALLEST)))
    is_hot_B1 = body.op("Greater", hot_B1, body.constant(np.float32(COLD)))
    by_B1 = body.op("Where", is_hot_B1, hot_B1, body.constant(np.float32(1)))
    scaled_BV = body.op("Div", body.op("Squeeze", allowed_BKV, axis), by_B1)
    size_1 = body.op("Shape", scaled_BV, start=1)
    scaled_BV, token_BV = body.ops("TopK", scaled_BV, size_1, num_outputs=2)
    size, zero, one = body.op("Squeeze", size_1), body.constant(np.array(0)), body.constant(np.array(1))
    rank_V = body.op("Range", zero, size, one)
    is_likely = body.op("Less", rank_V, body.op("Where", body.op("Greater", top_k_B1, zero), top_k_B1, size))
    share_BV = body.op("Where", is_likely, scaled_BV, body.constant(np.float32(IMPOSSIBLE)))
    share_BV = body.op("Softmax", share_BV, axis=-1)
    before_BV = body.op("Sub", body.op("CumSum", share_BV, one), share_BV)
    share_BV = body.op("Where", body.op("Less", before_BV, top_p_B1), share_BV, none)
    up_to_BV = body.op("CumSum", share_BV, one)
    last = body.op("Sub", body.op("Gather", body.op("Shape", known["uniform"]), one), one)
    number_B1 = body.op("Unsqueeze", body.op("Min", body.op("Max", number_B, zero), last), axis)
    draw_B1 = body.op("GatherElements", known["uniform"], number_B1, axis=1)
    passes_B1 = body.op("Mul", draw_B1, body.op("ReduceMax", up_to_BV, axis, keepdims=1))
    place_B1 = body.op(
        "Min",
        _count(body, body.op("LessOrEqual", up_to_BV, passes_B1)),
        body.op("Sub", _count(body, body.op("Greater", share_BV, none)), one),
    )
    return body.op("Where", is_hot_B1, body.op("GatherElements", token_BV, place_B1, axis=1), best_BK)


def _count(body: Nodes, is_so_BV: str) -> str:
    return body.op("ReduceSum", body.op("Cast", is_so_BV, to=TensorProto.INT64), body.constant([1]), keepdims=1)
