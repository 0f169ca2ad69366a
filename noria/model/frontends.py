"""How a modality enters the Transformer.

Shapes: B batch, T length, K beams, D model dimension, V vocabulary, F mel bands, U = ceil(T / 4),
C channels, H height, W width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.attention import Packing
from noria.model.layers import LayerNorm, dropout, squared_relu

_PRIME = 2_147_483_647


class TextFrontend(nn.Module):
    """Token embeddings, plus learned positions (none when attention is rotary), plus bigrams, normalized.

    A bigram (the token before and this one) is hashed into one of `bigram_buckets` vectors, which
    start at zero. A hidden token hides its bigrams too: nothing leaks in pretraining.
    """

    def __init__(self, config: ModelConfig, *, vocabulary_size: int, max_tokens: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(vocabulary_size, config.dim) * 0.05)
        learned = config.positions == "learned"
        self.positions = nn.Parameter(torch.randn(max_tokens, config.dim) * 0.01) if learned else None
        buckets = config.bigram_buckets
        self.bigrams = nn.Parameter(torch.zeros(buckets, config.dim)) if buckets else None
        self.norm = LayerNorm(config.dim)
        self.dropout = config.dropout

    def forward(self, token_ids_BT: Tensor, packing: Packing | None = None) -> Tensor:
        length = token_ids_BT.shape[1]
        x_BTD = F.embedding(token_ids_BT, self.tokens)
        if self.positions is not None:
            x_BTD = x_BTD + self.positions[slice(length) if packing is None else packing.places(length)]
        if self.bigrams is not None:
            buckets_BT = hash_bigrams(token_ids_BT, num_buckets=len(self.bigrams), packing=packing)
            x_BTD = x_BTD + F.embedding(buckets_BT, self.bigrams)
        out: Tensor = dropout(self.norm(x_BTD), self.dropout if self.training else 0.0)
        return out

    def step(self, token_ids_BK: Tensor, place_1: Tensor, before_BK: Tensor | None = None) -> Tensor:
        """Vectors (B, K, D) of one token of every beam, all at `place_1`; bigrams need the tokens before them."""
        x_BKD = F.embedding(token_ids_BK, self.tokens)
        if self.positions is not None:
            x_BKD = x_BKD + self.positions[place_1]
        if self.bigrams is not None:
            assert before_BK is not None, "a bigram needs the token before"
            x_BKD = x_BKD + F.embedding(bucket_of(before_BK, token_ids_BK, len(self.bigrams)), self.bigrams)
        out: Tensor = self.norm(x_BKD)
        return out


def hash_bigrams(token_ids_BT: Tensor, *, num_buckets: int, packing: Packing | None = None) -> Tensor:
    """Bucket int64 (B, T) of every token and the one before it (0 before the first of a document)."""
    previous_BT = F.pad(token_ids_BT, (1, 0))[:, :-1]
    if packing is not None:
        previous_BT = previous_BT.masked_fill(packing.places(token_ids_BT.shape[1]) == 0, 0)
    return bucket_of(previous_BT, token_ids_BT, num_buckets)


def bucket_of(before: Tensor, token_ids: Tensor, num_buckets: int) -> Tensor:
    """Bucket int64 of each token and the one before it, both int64 of one shape."""
    return (before * 1_000_003 + token_ids * 8_191) % _PRIME % num_buckets


class PatchFrontend(nn.Module):
    """Patches of an image through one linear map, plus learned positions, normalized (ViT, arXiv:2010.11929).

    Patches may overlap: then neighbours share pixels, which spares a small model learning to look across borders.
    `mean` and `std` are those of the training images' pixels, of 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, *, mean: float, std: float) -> None:
        super().__init__()
        image = config.image
        self.stride = image.stride
        num_inputs = image.channels * image.patch**2
        self.patches = nn.Parameter(torch.randn(config.dim, image.channels, image.patch, image.patch) / num_inputs**0.5)
        self.positions = nn.Parameter(torch.randn(image.num_patches, config.dim) * 0.1)
        self.norm = LayerNorm(config.dim)
        self.dropout = config.dropout
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, T, D) of uint8 pixels."""
        scaled = (pixels_BCHW.float() / 255 - self.mean) / self.std
        x_BTD = F.conv2d(scaled, self.patches, stride=self.stride).flatten(2).transpose(1, 2) + self.positions
        out: Tensor = dropout(self.norm(x_BTD), self.dropout if self.training else 0.0)
        return out


class AudioFrontend(nn.Module):
    """Two convolutions over time, each of which halves it, and a normalization; positions are the encoder's.

    Padding is zero before each convolution, so it says nothing to real frames.
    """

    def __init__(self, config: ModelConfig, *, num_mels: int) -> None:
        super().__init__()
        wide, narrow = 5, 3
        self.listen = nn.Parameter(torch.randn(config.dim, num_mels, wide) / math.sqrt(num_mels * wide))
        self.mix = nn.Parameter(torch.randn(config.dim, config.dim, narrow) / math.sqrt(config.dim * narrow))
        self.norm = LayerNorm(config.dim)
        self.dropout = config.dropout

    def forward(self, mel_BTF: Tensor, num_frames_B: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, U, D), and which of them are real, bool (B, U)."""
        frame_T = torch.arange(mel_BTF.shape[1], device=mel_BTF.device)
        real_BT = frame_T < num_frames_B[:, None]
        x_BFT = (mel_BTF * real_BT[..., None]).mT
        x_BDT = squared_relu(F.conv1d(x_BFT, self.listen.to(x_BFT.dtype), stride=2, padding=2))
        x_BDT = x_BDT * real_BT[:, None, ::2]
        x_BUD = F.conv1d(x_BDT, self.mix.to(x_BDT.dtype), stride=2, padding=1).mT
        out: Tensor = dropout(self.norm(x_BUD), self.dropout if self.training else 0.0)
        return out, real_BT[:, ::4]
