"""Bits per byte: what an ideal coder that is led by a model would need for a document, over its bytes in UTF-8.

The sum over a document's tokens does not depend on how it is cut into them, so models with other vocabularies,
n-grams and compressors are measured by one measure. The end of a document counts as well: it must be coded too.

Shapes: R sets of weights, N documents, T tokens of one, W windows, C context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noria.data.document_encoder import DOCUMENT, DocumentEncoder
from noria.data.documents import slices
from noria.evaluation.judged import Judged, ids_of, slices_of
from noria.evaluation.metrics import Metric
from noria.scenarios.base import Row, Tensors

LOG_PROBS = "log_probs"
"""What the model's outputs are called: float32 (B, W, C) and int64 (B, T)."""
FREQUENCIES = "each byte by how often it occurs"
_BITS, _BYTES, _TOKENS = range(3)


@dataclass(frozen=True)
class Said:
    """What a model said of a document: bits float64 (T) of each token and its bytes int64 (T), the end among them."""

    bits: np.ndarray
    num_bytes: np.ndarray


def said_of(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: DocumentEncoder) -> list[Said]:
    """Of each row."""
    piece_bytes = encoder.piece_bytes
    said = []
    for encoded, output in zip(encoder.encode_batch(rows), outputs, strict=True):
        asked_T = encoded[DOCUMENT][1:]
        log_probs_T = encoder.judged(output[LOG_PROBS], len(asked_T)).astype(np.float64)
        said.append(Said(-log_probs_T / np.log(2), piece_bytes[asked_T]))
    return said


def compression(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of the bytes that an ideal coder led by the model saves: 1 - bits per byte / 8."""
    return np.asarray(1 - bits_per_byte(judged, weights_RN) / 8)


def bits_per_byte(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Bits of all documents over their bytes."""
    return np.asarray(weights_RN @ judged.outputs[:, _BITS] / np.maximum(weights_RN @ judged.outputs[:, _BYTES], 1))


def bits_per_token(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Bits of all documents over their tokens: the logarithm of the perplexity, which depends on the vocabulary."""
    return np.asarray(weights_RN @ judged.outputs[:, _BITS] / np.maximum(weights_RN @ judged.outputs[:, _TOKENS], 1))


METRICS: dict[str, Metric] = {
    "compression": compression,
    "bits_per_byte": bits_per_byte,
    "bits_per_token": bits_per_token,
}


def judge_documents(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: DocumentEncoder) -> Judged:
    """Bits, bytes and tokens of each row; the trivial answer knows how often each byte occurs in these very rows."""
    texts = [str(row["text"] or "").encode("utf-8", "replace") for row in rows]
    said = said_of(rows, outputs, encoder)
    bits_N, tokens_N = np.array([part.bits.sum() for part in said]), np.array([len(part.bits) for part in said])
    bytes_N = np.array([len(text) for text in texts])
    return Judged(
        ids_of(rows),
        targets=np.zeros(len(rows)),
        outputs=np.stack([bits_N, bytes_N, tokens_N], axis=1).astype(np.float64),
        labels=(),
        slices=slices_of(rows, slices),
        metrics=METRICS,
        trivial=np.stack([_bits_of_bytes(texts), bytes_N, tokens_N], axis=1),
        trivial_name=FREQUENCIES,
        columns={
            "name": [str(row.get("name") or row.get("origin") or "") for row in rows],
            "bits": bits_N.tolist(),
            "bytes": bytes_N.tolist(),
            "bits_per_byte": (bits_N / np.maximum(bytes_N, 1)).tolist(),
        },
    )


def _bits_of_bytes(texts: Sequence[bytes]) -> np.ndarray:
    counts = np.array([np.bincount(np.frombuffer(text, np.uint8), minlength=256) for text in texts], np.float64)
    shares = counts.sum(axis=0) / max(counts.sum(), 1.0)
    return np.asarray(counts @ -np.log2(np.maximum(shares, 1e-12)))
