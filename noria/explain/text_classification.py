"""Explains a text classifier: its Transformer by integrated gradients, its linear branch exactly.

Shapes: T tokens, D model dimension, C classes, G n-grams, P points of the integration, N occurrences of n-grams.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noria.data.text_encoder import MASK, TextEncoder, normalize
from noria.explain.attention import attention_maps, rollout
from noria.explain.explanation import Explanation, Token
from noria.explain.integrated_gradients import integrated_gradients
from noria.explain.pieces import Pieces, pieces_of
from noria.model.text_classifier import DeepBranch, TextClassifier
from noria.model.wide import WideBranch
from noria.training.checkpoint import Trained

TRANSFORMER, NGRAMS = "transformer", "n-grams"


def explain(trained: Trained, values: Mapping[str, object]) -> Explanation:
    """What the answer to one text is made of.

    A token is hidden, as in pretraining, by the mask token; the contributions of the Transformer lead
    from the text with every token hidden to the text. The token's bigram goes with it. An n-gram's
    contribution is shared by its characters, and these belong to tokens.
    """
    model, encoder = trained.model, trained.encoder
    assert isinstance(model, TextClassifier) and isinstance(encoder, TextEncoder)
    text = normalize(str(values["text"]))
    tensors = {name: torch.from_numpy(array) for name, array in encoder.collate([encoder.encode(values)]).items()}
    with torch.inference_mode():
        logits_C = model(**tensors)[0].double()
    winner = int(logits_C.argmax())
    pieces = pieces_of(text, encoder, max_ngram=trained.config.model.wide.max_ngram)
    assert len(pieces.tokens) == tensors["token_ids"].shape[1]
    base, rest = 0.0, 0.0
    parts: dict[str, NDArray[np.float64]] = {}
    maps: list[Tensor] = []
    if (deep := model.deep) is not None:
        token_ids_1T = tensors["token_ids"]
        hidden, parts[TRANSFORMER] = _transformer_parts(deep, token_ids_1T, winner, scale=float(model.deep_scale))
        maps = [layer[0] for layer in attention_maps(deep, lambda: deep(token_ids_1T))]
        base += hidden
    if model.wide is not None:
        ids, given = tensors["ngram_ids"][0], tensors["ngram_values"][0]
        by_ngram = float(model.wide_scale) * _ngram_parts(model.wide, ids, given, winner)
        parts[NGRAMS], rest = _onto_tokens(pieces, ids.numpy(), by_ngram, num_chars=len(text))
        base += float(model.wide_scale * against_others(model.wide.bias.detach(), winner))
    labels = encoder.labels
    return Explanation(
        label=labels[winner],
        scores=dict(zip(labels, logits_C.softmax(-1).tolist(), strict=True)),
        score=float(against_others(logits_C, winner)),
        base=base,
        rest=rest,
        tokens=_tokens(text, pieces, parts, maps),
        attention=tuple(layer.numpy() for layer in maps),
    )


def against_others(logits_C: Tensor, winner: int) -> Tensor:
    """The logit of a class less the mean of the others, over the last dimension: what softmax can tell."""
    num_classes = logits_C.shape[-1]
    return (num_classes * logits_C[..., winner] - logits_C.sum(-1)) / (num_classes - 1)


def _transformer_parts(
    deep: DeepBranch, token_ids_1T: Tensor, winner: int, *, scale: float
) -> tuple[float, NDArray[np.float64]]:
    """The score with every token hidden, and the contribution of each token (T)."""

    def score(x_PTD: Tensor) -> Tensor:
        hook = deep.frontend.register_forward_hook(lambda module, given, out: x_PTD)
        try:
            logits_PC = deep(token_ids_1T.expand(len(x_PTD), -1))
        finally:
            hook.remove()
        return scale * against_others(logits_PC, winner)

    x_TD = deep.frontend(token_ids_1T)[0]
    hidden_TD = deep.frontend(torch.full_like(token_ids_1T, MASK))[0]
    parts_T = integrated_gradients(score, x_TD, hidden_TD)
    return float(score(hidden_TD[None]).detach()), parts_T.double().numpy()


@torch.no_grad()
def _ngram_parts(wide: WideBranch, ids_G: Tensor, values_G: Tensor, winner: int) -> NDArray[np.float64]:
    """The contribution of each n-gram (G), exactly: both linear models are sums over n-grams."""
    rated_G = values_G * wide.ratio[ids_G]
    rated_G = rated_G / rated_G.norm().clamp_min(1e-6)
    plain_G = values_G * against_others(wide.plain_weight[ids_G], winner)
    parts_G: NDArray[np.float64] = (
        (0.5 * (plain_G + rated_G * against_others(wide.rated_weight[ids_G], winner))).double().numpy()
    )
    return parts_G


def _onto_tokens(
    pieces: Pieces, ids_G: NDArray[np.int64], parts_G: NDArray[np.float64], *, num_chars: int
) -> tuple[NDArray[np.float64], float]:
    """Shares of the n-grams' contributions by token (T), and what no token covers."""
    features_N, starts_N, ends_N = pieces.ngrams.T
    in_row_N = np.searchsorted(ids_G, features_N) if len(ids_G) else features_N
    assert np.array_equal(ids_G[in_row_N], features_N), "n-grams of the text that the encoder did not find"
    occurrences_G = np.bincount(in_row_N, minlength=len(ids_G))
    share_N = parts_G[in_row_N] / occurrences_G[in_row_N] / (ends_N - starts_N)  # per character
    change = np.zeros(num_chars + 1)
    np.add.at(change, starts_N, share_N)
    np.add.at(change, ends_N, -share_N)
    up_to = np.concatenate([[0.0], np.cumsum(np.cumsum(change)[:num_chars])])
    parts_T = up_to[pieces.tokens[:, 1]] - up_to[pieces.tokens[:, 0]]
    return parts_T, float(up_to[-1] - parts_T.sum())


def _tokens(
    text: str, pieces: Pieces, parts: Mapping[str, NDArray[np.float64]], maps: list[Tensor]
) -> tuple[Token, ...]:
    """Rollout is to the mean over positions, as the head takes it."""
    reach_T = rollout(maps).mean(0).tolist() if maps else [None] * len(pieces.tokens)
    return tuple(
        Token(text[start:end], int(start), int(end), {name: float(part[i]) for name, part in parts.items()}, reach_T[i])
        for i, (start, end) in enumerate(pieces.tokens)
    )
