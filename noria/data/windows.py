"""Overlapping windows over a long context, and the best span over all of them.

Shapes: W windows of a context, C tokens of a context, T positions of a window: the empty answer (0), the
question, a separator, then context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NEVER = -1e9


@dataclass(frozen=True)
class Window:
    """A part of a context, and where it begins among the positions that the model reads."""

    first: int
    """Token of the context."""
    last: int
    """Behind its last token."""
    offset: int
    """Position of token `first`."""


@dataclass(frozen=True)
class Span:
    """Tokens of a context.

    Attributes
    ----------
    first, last:
        Both inside; -1 and -1 for no answer.
    score:
        Probability of the two ends, in the window that they are in.
    """

    first: int
    last: int
    score: float


def windows_of(num_question: int, num_context: int, *, max_tokens: int, overlap: int) -> list[Window]:
    """Windows that fit into `max_tokens` with the question and two more; neighbours share `overlap` or half."""
    offset = num_question + 2
    room = max(max_tokens - offset, 1)
    step = max(room - min(overlap, room // 2), 1)
    num_windows = 1 + max(0, -(-(num_context - room) // step))
    return [Window(k * step, min(k * step + room, num_context), offset) for k in range(num_windows)]


def best_span(
    logits_WT2: np.ndarray,
    windows: Sequence[Window],
    *,
    begins_C: np.ndarray,
    ends_C: np.ndarray,
    max_answer_tokens: int,
    may_refuse: bool,
) -> Span:
    """The likeliest answer of all windows.

    Parameters
    ----------
    logits_WT2:
        Of the start and of the end at every position.
    begins_C, ends_C:
        bool: where an answer may begin, and end.

    A window's best span counts by its odds against the window's own empty answer, so that windows can be
    compared (Devlin et al. 2019, arXiv:1810.04805, 4.3); no answer is the answer where none has odds above one.
    """
    best, best_odds, refusal = Span(-1, -1, 0.0), -np.inf, np.inf
    for logits_T2, window in zip(logits_WT2, windows, strict=True):
        inside = slice(window.first, window.last)
        size = window.last - window.first
        read = np.concatenate([logits_T2[:1], logits_T2[window.offset : window.offset + size]]).astype(np.float64)
        log_p = read - read.max(axis=0)
        log_p -= np.log(np.exp(log_p).sum(axis=0))
        empty = float(log_p[0].sum())
        refusal = min(refusal, empty)
        start_S = np.where(begins_C[inside], log_p[1:, 0], _NEVER)
        end_S = np.where(ends_C[inside], log_p[1:, 1], _NEVER)
        first, last, found = _best(start_S, end_S, max_answer_tokens)
        if found > _NEVER / 2 and found - empty > best_odds:
            best_odds = found - empty
            best = Span(window.first + first, window.first + last, float(np.exp(found)))
    if best.first < 0 or (may_refuse and best_odds < 0):
        return Span(-1, -1, float(np.exp(refusal)))
    return best


def _best(start_S: np.ndarray, end_S: np.ndarray, most: int) -> tuple[int, int, float]:
    """The pair of a start and an end at most `most` tokens long with the largest sum; of equals the shortest."""
    best = (0, 0, 2 * _NEVER)
    for length in range(min(most, len(start_S))):
        sums = start_S[: len(start_S) - length] + end_S[length:]
        first = int(sums.argmax())
        if sums[first] > best[2]:
            best = (first, first + length, float(sums[first]))
    return best
