"""A sequence, token by token: greedy or by beam search, from any model that can take a step.

Every row of a batch stands at the same place. What is given (a start token; the prompt of a language
model) is a prefix, whose tokens are taken as they are while it lasts, so that prefixes of different
lengths need no padding in front. A row's answer does not depend on the rows beside it.

The ONNX graph (`noria.export.generation`) takes the same decisions in the same order.

Shapes: B batch, K beams, P prefix, S source, T tokens so far, V vocabulary, H heads, E dimension of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from noria.config import GenerationConfig
from noria.model.attention import KeysValues

PADDING = 0
IMPOSSIBLE = -1e9
"""A log probability below any, and finite: differences of it are numbers."""


@dataclass(frozen=True)
class Start:
    """What is known before the first token.

    Attributes
    ----------
    prefix:
        int64 (B, P): the tokens that every answer begins with, at least one; padding behind shorter ones.
    limit:
        int64 (B): how many tokens may stand behind the first of the prefix.
    memory:
        Keys and values (B, H, S, E) of a source, layer by layer; empty for a decoder alone.
    memory_real:
        bool (B, S): where the source is no padding; None without one.
    """

    prefix: Tensor
    limit: Tensor
    memory: Sequence[KeysValues] = ()
    memory_real: Tensor | None = None


@dataclass(frozen=True)
class Vocabulary:
    """The token that ends an answer, and those that are never one (padding always is)."""

    end: int
    never: tuple[int, ...] = ()


class Generator(Protocol):
    """A model that can be asked for one token after another."""

    vocabulary: Vocabulary

    def empty_past(self, like: Tensor, *, num_beams: int) -> list[KeysValues]:
        """Keys and values (B, K, H, 0, E) of each layer, B being the rows of `like`."""
        ...

    def step(
        self, token_BK: Tensor, place_1: Tensor, past: Sequence[KeysValues], start: Start
    ) -> tuple[Tensor, list[KeysValues]]:
        """Logits float32 (B, K, V) of the token behind `token_BK`, which stands at `place_1`, and the past with it."""
        ...


@dataclass(frozen=True)
class _Beams:
    """Hypotheses, the best of a row first.

    `tokens` are int64 (B, K, T), `score` (B, K) is the sum of log probabilities, `length` int64 (B, K)
    the number of tokens that it is of, and `done` bool (B, K).
    """

    tokens: Tensor
    score: Tensor
    length: Tensor
    done: Tensor


def generate(model: Generator, start: Start, *, config: GenerationConfig) -> Tensor:
    """The best answer found to each row, int64 (B, T): behind the prefix's first token, padding behind the end."""
    prefix_BP, num_beams = start.prefix, config.beams
    past = model.empty_past(prefix_BP, num_beams=num_beams)
    token_BK = prefix_BP[:, :1].expand(-1, num_beams)
    beams = _first(prefix_BP, num_beams)
    for place in range(int(start.limit.max())):
        logits_BKV, past = model.step(token_BK, torch.tensor([place], device=prefix_BP.device), past, start)
        only_BK = _only_choice(beams, prefix_BP, place + 1)
        if num_beams == 1:
            beams = _longer_by_best(beams, logits_BKV, only_BK, model.vocabulary)
        else:
            beams, parent_BK = _longer_by_beams(beams, logits_BKV, only_BK, model.vocabulary, config.length_penalty)
            row_B1 = torch.arange(len(prefix_BP), device=prefix_BP.device)[:, None]
            past = [KeysValues(layer.keys[row_B1, parent_BK], layer.values[row_B1, parent_BK]) for layer in past]
        beams = _ended(beams, limit_reached_B=start.limit <= place + 1, end=model.vocabulary.end)
        token_BK = beams.tokens[:, :, -1]
        if bool(beams.done.all()):
            break
    return beams.tokens[:, 0]


def length_penalty(length_BK: Tensor, alpha: float) -> Tensor:
    """What a score is divided by: ((5 + length) / 6)^alpha (Wu et al. 2016, arXiv:1609.08144, equation 14)."""
    return ((5.0 + length_BK.float()) / 6.0) ** alpha


def _first(prefix_BP: Tensor, num_beams: int) -> _Beams:
    """One hypothesis; the others stand for nothing until there are that many."""
    batch, device = len(prefix_BP), prefix_BP.device
    score_BK = torch.full((batch, num_beams), IMPOSSIBLE, device=device)
    score_BK[:, 0] = 0.0
    zeros_BK = torch.zeros(batch, num_beams, dtype=torch.int64, device=device)
    return _Beams(zeros_BK.new_zeros(batch, num_beams, 0), score_BK, zeros_BK, zeros_BK.bool())


def _only_choice(beams: _Beams, prefix_BP: Tensor, place: int) -> Tensor:
    """The only token that may come, int64 (B, K): padding behind the end, the prefix's while it lasts; else -1."""
    only_BK = torch.full_like(beams.length, -1)
    if place < prefix_BP.shape[1]:
        given_B1 = prefix_BP[:, place : place + 1]
        only_BK = torch.where(given_B1 != PADDING, given_B1, only_BK)
    return only_BK.masked_fill(beams.done, PADDING)


def _allowed(logits_BKV: Tensor, vocabulary: Vocabulary) -> Tensor:
    hidden_V = torch.zeros(logits_BKV.shape[-1], device=logits_BKV.device)
    hidden_V[[PADDING, *vocabulary.never]] = IMPOSSIBLE
    return logits_BKV + hidden_V


def _longer_by_best(beams: _Beams, logits_BKV: Tensor, only_BK: Tensor, vocabulary: Vocabulary) -> _Beams:
    best_BK = _allowed(logits_BKV, vocabulary).argmax(-1)
    token_BK = torch.where(only_BK >= 0, only_BK, best_BK)
    tokens_BKT = torch.cat([beams.tokens, token_BK[:, :, None]], dim=2)
    return _Beams(tokens_BKT, beams.score, beams.length, beams.done)


def _longer_by_beams(
    beams: _Beams, logits_BKV: Tensor, only_BK: Tensor, vocabulary: Vocabulary, alpha: float
) -> tuple[_Beams, Tensor]:
    """The best continuations of all beams of a row together, and which beam each comes from.

    A hypothesis that has ended goes on with padding, at no cost, and so stays in the race.
    """
    num_beams, size = logits_BKV.shape[1:]
    said_BKV = _allowed(logits_BKV, vocabulary).log_softmax(-1)
    token_V = torch.arange(size, device=logits_BKV.device)
    free_BKV = torch.where(token_V == only_BK[:, :, None], 0.0, IMPOSSIBLE)
    said_BKV = torch.where(only_BK[:, :, None] >= 0, free_BKV, said_BKV)
    total_BKV = beams.score[:, :, None] + said_BKV
    length_BK = beams.length + (only_BK < 0)
    ranked_BKV = total_BKV / length_penalty(length_BK, alpha)[:, :, None]
    _, place_BK = ranked_BKV.flatten(1).topk(num_beams)
    parent_BK, token_BK = place_BK // size, place_BK % size
    tokens_BKT = beams.tokens.gather(1, parent_BK[:, :, None].expand_as(beams.tokens))
    longer = _Beams(
        tokens=torch.cat([tokens_BKT, token_BK[:, :, None]], dim=2),
        score=total_BKV.flatten(1).gather(1, place_BK),
        length=length_BK.gather(1, parent_BK),
        done=beams.done.gather(1, parent_BK),
    )
    return longer, parent_BK


def _ended(beams: _Beams, *, limit_reached_B: Tensor, end: int) -> _Beams:
    """A beam is done when it ends; all of a row are when the best is, or no token more may come."""
    done_BK = beams.done | (beams.tokens[:, :, -1] == end)
    done_BK = done_BK | done_BK[:, :1] | limit_reached_B[:, None]
    return _Beams(beams.tokens, beams.score, beams.length, done_BK)
