"""The search of `noria.model.generation`, operator by operator: what a round of its Loop decides.

Shapes: B batch, K beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from noria.export.nodes import Nodes
from noria.model.generation import COLD, IMPOSSIBLE, PADDING, SMALLEST


def only_choice(body: Nodes, done_BK: str, prefix_BP: str | None, next_place: str) -> str:
    """The only token that may come, (B, K): padding behind the end, the prefix's, if any, while it lasts; else -1."""
    one, padding, free = (body.constant(np.array(number)) for number in (1, PADDING, -1))
    if prefix_BP is None:
        return body.op("Where", done_BK, padding, free)
    width = body.op("Gather", body.op("Shape", prefix_BP), one)
    column = body.op("Min", next_place, body.op("Sub", width, one))
    given_B1 = body.op("Gather", prefix_BP, body.op("Reshape", column, body.constant([1])), axis=1)
    is_real = body.op("Not", body.op("Equal", given_B1, padding))
    is_given = body.op("And", body.op("Less", next_place, width), is_real)
    free_B1 = body.op("Where", is_given, given_B1, free)
    return body.op("Where", done_BK, padding, free_B1)


def longer_by_beams(
    body: Nodes, logits_BKV: str, only_BK: str, now: Mapping[str, str], *, alpha: float, num_beams: int
) -> dict[str, str]:
    """The best continuations of all beams of a row together, and which beam (of all rows, N) each comes from.

    They are among the K best of each beam, so that only these are ranked together.
    """
    last, flat = body.constant([2]), body.constant([0, -1])
    is_free = body.op("Less", only_BK, body.constant(np.array(0)))
    said_BKK, token_BKK = body.ops(
        "TopK", body.op("LogSoftmax", logits_BKV, axis=-1), body.constant([num_beams]), num_outputs=2
    )
    first_K = np.full(num_beams, IMPOSSIBLE, np.float32)
    first_K[0] = 0.0
    is_free_BK1 = body.op("Unsqueeze", is_free, last)
    said_BKK = body.op("Where", is_free_BK1, said_BKK, body.constant(first_K))
    token_BKK = body.op("Where", is_free_BK1, token_BKK, body.op("Unsqueeze", only_BK, last))
    total_BKK = body.op("Add", body.op("Unsqueeze", now["score"], last), said_BKK)
    length_BK = body.op("Add", now["length"], body.op("Cast", is_free, to=TensorProto.INT64))
    longer = body.op("Add", body.op("Cast", length_BK, to=TensorProto.FLOAT), body.constant(np.float32(5)))
    sixths = body.op("Div", longer, body.constant(np.float32(6)))
    penalty_BK = body.op("Pow", sixths, body.constant(np.float32(alpha)))
    ranked_BKK = body.op("Div", total_BKK, body.op("Unsqueeze", penalty_BK, last))
    _, place_BK = body.ops("TopK", body.op("Reshape", ranked_BKK, flat), body.constant([num_beams]), num_outputs=2)
    beam_BK = body.op("Div", place_BK, body.constant(np.array(num_beams)))
    return {
        "parent": _flat_beams(body, beam_BK, num_beams=num_beams),
        "token": body.op("GatherElements", body.op("Reshape", token_BKK, flat), place_BK, axis=1),
        "history": body.op("GatherND", now["history"], body.op("Unsqueeze", beam_BK, last), batch_dims=1),
        "score": body.op("GatherElements", body.op("Reshape", total_BKK, flat), place_BK, axis=1),
        "length": body.op("GatherElements", length_BK, beam_BK, axis=1),
        "done": body.op("GatherElements", now["done"], beam_BK, axis=1),
    }


def _flat_beams(body: Nodes, beam_BK: str, *, num_beams: int) -> str:
    """Numbers of beams among the beams of all rows, (N)."""
    zero, beams = body.constant(np.array(0)), body.constant(np.array(num_beams))
    first_B = body.op("Range", zero, body.op("Size", beam_BK), beams)
    return body.op(
        "Reshape", body.op("Add", body.op("Unsqueeze", first_B, body.constant([1])), beam_BK), body.constant([-1])
    )


def ended(body: Nodes, later: Mapping[str, str], limit_B1: str, next_place: str, *, end: int, num_beams: int) -> str:
    """A beam is done when it ends; all of a row are when the best is, or no token more may come."""
    one = body.constant([1])
    done_BK = body.op("Or", later["done"], body.op("Equal", later["token"], body.constant(np.array(end))))
    if num_beams > 1:
        done_BK = body.op("Or", done_BK, body.op("Slice", done_BK, body.constant([0]), one, one))
    return body.op("Or", done_BK, body.op("LessOrEqual", limit_B1, next_place))


def drawn(body: Nodes, logits_BKV: str, best_BK: str, number_B: str, known: Mapping[str, str]) -> str:
    """The token (B, 1) at which the probabilities of those allowed pass the draw; one beam."""
    axis, none = body.constant([1]), body.constant(np.float32(0))
    hot_B1, top_k_B1, top_p_B1 = (body.op("Unsqueeze", known[name], axis) for name in ("temperature", "top_k", "top_p"))
    top_p_B1 = body.op("Max", top_p_B1, body.constant(np.float32(SMALLEST)))
    is_hot_B1 = body.op("Greater", hot_B1, body.constant(np.float32(COLD)))
    by_B1 = body.op("Where", is_hot_B1, hot_B1, body.constant(np.float32(1)))
    scaled_BV = body.op("Div", body.op("Squeeze", logits_BKV, axis), by_B1)
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
