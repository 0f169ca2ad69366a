"""A sequence, token by token: greedy, drawn or by beam search, from any model that can take a step.

Every row of a batch stands at the same place. What is given (a start token; the prompt of a language
model) is a prefix, whose tokens are taken as they are while it lasts, so that prefixes of different
lengths need no padding in front; what a model has read of it at once is not read again. A row's answer
does not depend on the rows beside it.

The ONNX graph (`noria.export.generation`) takes the same decisions in the same order.

Shapes: B batch, K beams, N = B * K, P prefix, S source, T tokens so far, G draws, V vocabulary, H heads, E dimension
of a head.
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
COLD, SMALLEST = 1e-4, 1e-6
"""A temperature up to the first is none; a nucleus is never smaller than the second: far below, float32 has 0."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, row by row; without beams.

    Attributes
    ----------
    temperature:
        float32 (B): logits are divided by it; 0 takes the likeliest token.
    top_k:
        int64 (B): only so many of the likeliest may come (Fan et al. 2018, arXiv:1805.04833); 0 is all.
    top_p:
        float32 (B): only the fewest that have this probability together (Holtzman et al. 2019, arXiv:1904.09751).
    uniform:
        float32 (B, G) in [0, 1): a draw for each token behind the prefix, so that equal ones give equal answers.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    uniform: Tensor


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
    read:
        Keys and values (B, H, P, E) of the prefix, layer by layer, where the model has read it at once.
    sampling:
        How tokens are drawn, if they are.
    """

    prefix: Tensor
    limit: Tensor
    memory: Sequence[KeysValues] = ()
    memory_real: Tensor | None = None
    read: Sequence[KeysValues] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Vocabulary:
    """The token that ends an answer, and those that are never one (padding always is)."""

    end: int
    never: tuple[int, ...] = ()


class Generator(Protocol):
    """A model that can be asked for one token after another."""

    vocabulary: Vocabulary

    def empty_past(self, like: Tensor, *, num_beams: int) -> list[KeysValues]:
        """Keys and values (B * K, H, 0, E) of each layer, B being the rows of `like`: the beams of a row in a row."""
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
    num_given_B = (prefix_BP != PADDING).sum(1)
    first = int(num_given_B.min()) - 1 if start.read else 0
    past = model.empty_past(prefix_BP, num_beams=num_beams)
    if start.read:
        past = [KeysValues(*(_of_beams(part, first, num_beams) for part in layer)) for layer in start.read]
    token_BK = prefix_BP[:, first, None].expand(-1, num_beams)
    beams = _first(start, first, num_beams)
    for place in range(first, int(start.limit.max())):
        logits_BKV, past = model.step(token_BK, torch.tensor([place], device=prefix_BP.device), past, start)
        only_BK = _only_choice(beams, prefix_BP, place + 1)
        if num_beams == 1:
            logits_BKV = _allowed(logits_BKV, model.vocabulary)
            best_BK = logits_BKV.argmax(-1)
            if start.sampling is not None:
                best_BK = _drawn(logits_BKV[:, 0], best_BK[:, 0], start.sampling, place + 1 - num_given_B)[:, None]
            beams = _longer_by(beams, best_BK, only_BK)
        else:
            beams, parent_BK = _longer_by_beams(beams, logits_BKV, only_BK, model.vocabulary, config.length_penalty)
            first_B1 = torch.arange(0, parent_BK.numel(), num_beams, device=prefix_BP.device)[:, None]
            parent_N = (first_B1 + parent_BK).flatten()
            past = [KeysValues(layer.keys[parent_N], layer.values[parent_N]) for layer in past]
        beams = _ended(beams, limit_reached_B=start.limit <= place + 1, end=model.vocabulary.end)
        token_BK = beams.tokens[:, :, -1]
        if bool(beams.done.all()):
            break
    return beams.tokens[:, 0]


def length_penalty(length_BK: Tensor, alpha: float) -> Tensor:
    """What a score is divided by: ((5 + length) / 6)^alpha (Wu et al. 2016, arXiv:1609.08144, equation 14)."""
    return ((5.0 + length_BK.float()) / 6.0) ** alpha


def _of_beams(part_BHPE: Tensor, first: int, num_beams: int) -> Tensor:
    """What every beam has read, (B * K, H, first, E)."""
    return part_BHPE[:, :, :first].repeat_interleave(num_beams, dim=0)


def _first(start: Start, first: int, num_beams: int) -> _Beams:
    """One hypothesis, with what is given up to place `first`; others stand for nothing until there are that many."""
    batch, device = len(start.prefix), start.prefix.device
    score_BK = torch.full((batch, num_beams), IMPOSSIBLE, device=device)
    score_BK[:, 0] = 0.0
    zeros_BK = torch.zeros(batch, num_beams, dtype=torch.int64, device=device)
    given_BKT = start.prefix[:, None, 1 : first + 1].expand(-1, num_beams, -1)
    return _Beams(given_BKT, score_BK, zeros_BK, (start.limit <= first)[:, None].expand(-1, num_beams))


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


def _drawn(logits_BV: Tensor, best_B: Tensor, sampling: Sampling, number_B: Tensor) -> Tensor:
    """The token int64 (B) at which the probabilities of those allowed, from the likeliest down, pass the draw."""
    size, hot_B1 = logits_BV.shape[1], sampling.temperature[:, None]
    scaled_BV = logits_BV / torch.where(hot_B1 > COLD, hot_B1, 1.0)
    scaled_BV, token_BV = scaled_BV.sort(dim=-1, descending=True, stable=True)
    top_k_B1 = torch.where(sampling.top_k > 0, sampling.top_k, size)[:, None]
    likely_BV = torch.arange(size, device=logits_BV.device) < top_k_B1
    share_BV = scaled_BV.masked_fill(~likely_BV, IMPOSSIBLE).softmax(-1)
    share_BV = torch.where(share_BV.cumsum(-1) - share_BV < sampling.top_p[:, None].clamp(min=SMALLEST), share_BV, 0.0)
    up_to_BV = share_BV.cumsum(-1)
    last = sampling.uniform.shape[1] - 1
    draw_B1 = sampling.uniform.gather(1, number_B.clamp(min=0, max=last)[:, None])
    passed_B1 = (up_to_BV <= draw_B1 * up_to_BV[:, -1:]).sum(-1, keepdim=True)
    place_B1 = torch.minimum(passed_B1, (share_BV > 0).sum(-1, keepdim=True) - 1)
    return torch.where(sampling.temperature > COLD, token_BV.gather(1, place_B1)[:, 0], best_B)


def _longer_by(beams: _Beams, best_BK: Tensor, only_BK: Tensor) -> _Beams:
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
