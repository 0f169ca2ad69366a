"""CTranslate2 with the weights of a translator of ours, in int8 or float32.

Every part of our block can be expressed there: pre-norm, rotary positions of halves, normalized embeddings, an output
tied to them, with a bias. ReLU² is ReLU(x) · x: a gated feed-forward whose two first maps are the same. That costs
CTranslate2 one product more (a seventh of the arithmetic of a step), so that a variant with ReLU alone can be made
as well: it says nonsense, at the speed that a model trained with ReLU would have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.specs import LayerSpec, transformer_spec
from ctranslate2.specs.common_spec import Activation
from torch import Tensor, nn

from noria.model.attention import Attention
from noria.model.generation import PADDING
from noria.model.layers import FeedForward
from noria.model.translator import BEGIN, END, Translator

_MOST_TOKENS = 512
_UNKNOWN = 3
_SPECIAL = {PADDING: "<blank>", BEGIN: "<s>", END: "</s>"}


def write_model(model: Translator, directory: Path, *, quantization: str, squared: bool = True) -> None:
    """Convert; without `squared`, the feed-forward is that of ReLU."""
    config = model.config
    shape = {
        "num_layers": config.layers,
        "num_heads": config.heads,
        "activation": Activation.RELU,
        "layernorm_embedding": True,
        "ffn_glu": squared,
        "rotary_dim": config.dim // config.heads,
        "rotary_interleave": False,
    }
    encoder = transformer_spec.TransformerEncoderSpec(**shape)
    spec = transformer_spec.TransformerSpec(encoder, transformer_spec.TransformerDecoderSpec(**shape))
    transformer = model.transformer
    for side, source in ((spec.encoder, transformer.encoder), (spec.decoder, transformer.decoder)):
        side.scale_embeddings = False
        _set_norm(side.layernorm_embedding, model.frontend.norm)
        _set_norm(side.layer_norm, source.norm)
        for layer, block in zip(side.layer, source.blocks, strict=True):
            _set_attention(layer.self_attention, block.attention, block.attention_norm)
            if block.cross_attention is not None:
                _set_attention(layer.attention, block.cross_attention, block.cross_norm, num_joined=2)
            _set_feed_forward(layer.ffn, block.feed_forward, block.feed_forward_norm, squared=squared)
    table = _array(model.frontend.tokens)
    spec.encoder.embeddings[0].weight = spec.decoder.embeddings.weight = spec.decoder.projection.weight = table
    spec.decoder.projection.bias = _array(model.head.bias)
    spec.encoder.position_encodings.encodings = np.zeros((_MOST_TOKENS, config.dim), np.float32)  # it turns instead
    names = vocabulary(len(table))
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.config.bos_token = spec.config.decoder_start_token = names[BEGIN]
    spec.config.eos_token, spec.config.unk_token = names[END], names[_UNKNOWN]
    spec.validate()
    spec.optimize(quantization=None if quantization == "float32" else quantization)
    spec.save(str(directory))


def vocabulary(size: int) -> list[str]:
    """A name for every token: CTranslate2 takes and gives these."""
    return [_SPECIAL.get(number, str(number)) for number in range(size)]


def translate(
    directory: Path,
    *,
    quantization: str,
    beams: int,
    limit: Callable[[int], int],
    exactly: bool = False,
    early: bool = False,
) -> Callable[[np.ndarray], list[list[int]]]:
    """From source tokens (B, S) to target tokens without the end; `limit` of the longest source is the longest answer.

    With `exactly`, every answer has that length. With `early`, a row of beams ends with its best hypothesis, as ours
    does; CTranslate2 can only do so where scores are not divided by lengths, and else goes on until all beams ended.
    """
    translator = ctranslate2.Translator(
        str(directory), device="cpu", inter_threads=1, intra_threads=1, compute_type=quantization
    )

    def run(source_BS: np.ndarray) -> list[list[int]]:
        sources = [[_SPECIAL.get(token, str(token)) for token in row[row != PADDING].tolist()] for row in source_BS]
        most = limit(max(map(len, sources)))
        results = translator.translate_batch(
            sources,
            beam_size=beams,
            length_penalty=0.0 if early else 1.0,
            max_decoding_length=most,
            min_decoding_length=most if exactly else 1,
        )
        return [[int(token) for token in result.hypotheses[0] if token.isdigit()] for result in results]

    return run


def _array(weight: Tensor) -> np.ndarray:
    return weight.detach().numpy().astype(np.float32)


def _set_norm(spec: LayerSpec, norm: nn.Module) -> None:
    spec.gamma = _array(norm.weight)
    spec.beta = np.zeros_like(spec.gamma)


def _set_attention(spec: LayerSpec, attention: Attention, norm: nn.Module, *, num_joined: int = 3) -> None:
    """The last `num_joined` of the projections of queries, keys and values are one product."""
    _set_norm(spec.layer_norm, norm)
    first, joined = np.split(_array(attention.projections), [3 - num_joined])
    maps = [*first, joined.reshape(-1, joined.shape[-1]), _array(attention.output)]
    for linear, weight in zip(spec.linear, maps, strict=True):
        linear.weight = weight


def _set_feed_forward(spec: LayerSpec, feed_forward: FeedForward, norm: nn.Module, *, squared: bool) -> None:
    _set_norm(spec.layer_norm, norm)
    spec.linear_0.weight = _array(feed_forward.up.weight)
    spec.linear_1.weight = _array(feed_forward.down.weight)
    if squared:
        spec.linear_0_noact.weight = _array(feed_forward.up.weight)
