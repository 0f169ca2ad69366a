"""Bits per byte of a language model against n-grams and a compressor, on files that no training file resembles.

    python -m benchmarks.language_modelling WORKSPACE

takes the last run of a workspace of `language-modelling` (`noria init DIR --scenario language-modelling && noria
run -C DIR`): its bundle, its split, hold-out and all. The peers are interpolated modified Kneser-Ney 5-grams over
the model's own tokens and over bytes, trained on every training file, and `xz -9` of the held-out files one behind
the other, alone and behind all training files. Every one codes the same bytes; models code ends of files as well.
"""

from __future__ import annotations

import argparse
import lzma
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.kneser_ney import KneserNey
from benchmarks.results import Row, write_results
from noria.artifacts import read_artifact
from noria.config import EvaluateConfig
from noria.data.document_encoder import BOUNDARY, DOCUMENT, DocumentEncoder
from noria.data.rows import read_rows
from noria.evaluation.bootstrap import paired_difference
from noria.evaluation.judged import Judged, read_validation
from noria.evaluation.language import bits_per_byte, judge_documents
from noria.evaluation.metrics import value
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.workspace import Workspace

_ORDER = 5
_BYTES = 257  # and the boundary, 0
_NEW_TOKENS, _PROMPT_CHARS, _REQUESTS = 64, 800, 9


def bits_of_ngrams(training: Sequence[np.ndarray], held_out: Sequence[np.ndarray], size: int, end: int) -> np.ndarray:
    """Of each held-out document, behind all of the training documents."""
    model = KneserNey(training, order=_ORDER, vocabulary_size=size, boundary=end)
    return np.array([model.bits(document) for document in held_out])


def as_bytes(text: str) -> np.ndarray:
    """Boundary, bytes, boundary."""
    return np.array([0, *(byte + 1 for byte in text.encode()), 0])


def xz_bits(payload: bytes) -> int:
    """What `xz -9` makes of it, headers included."""
    return 8 * len(lzma.compress(payload, preset=9))


def _peers(
    encoder: DocumentEncoder, training: Sequence[str], held_out: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Bits of each document by the n-grams, and bits per byte of all by the compressor."""
    tokens = [
        [row[DOCUMENT] for row in encoder.encode_batch([{"text": text} for text in side])]
        for side in (training, held_out)
    ]
    raw = [[as_bytes(text) for text in side] for side in (training, held_out)]
    ngrams = {
        f"modified Kneser-Ney {_ORDER}-gram over the same tokens": bits_of_ngrams(
            *tokens, encoder.vocabulary_size, BOUNDARY
        ),
        f"modified Kneser-Ney {_ORDER}-gram over bytes": bits_of_ngrams(*raw, _BYTES, 0),
    }
    behind, whole = "".join(training).encode(), "".join(held_out).encode()
    compressed = {
        "xz -9": xz_bits(whole) / len(whole),
        "xz -9 behind the training files": (xz_bits(behind + whole) - xz_bits(behind)) / len(whole),
    }
    return ngrams, compressed


def _with_bits(judged: Judged, bits_N: np.ndarray) -> Judged:
    """The same documents, coded by another."""
    outputs = judged.outputs.copy()
    outputs[:, 0] = bits_N
    return Judged(
        judged.ids, judged.targets, outputs, (), judged.slices, metrics=judged.metrics, trivial=judged.trivial
    )


def _ms(ask: Callable[[], object]) -> float:
    taken = []
    for _ in range(_REQUESTS):
        start = time.perf_counter()
        ask()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def _speeds(workspace: Workspace, text: str) -> list[Row]:
    """Of one request on one thread: a token, and a long prompt, which is read at once."""
    bundle = open_bundle(workspace.bundle)
    predictor, name = Predictor(bundle, threads=1), read_artifact(workspace.bundle).facts["candidate"]
    short = {"prompt": "def ", "temperature": 0.8, "top_p": 0.95, "seed": 1}
    one = _ms(lambda: predictor.answer([{**short, "max_new_tokens": 1}]))
    many = _ms(lambda: predictor.answer([{**short, "max_new_tokens": 1 + _NEW_TOKENS}]))
    prompted = _ms(lambda: predictor.answer([{**short, "prompt": text[:_PROMPT_CHARS], "max_new_tokens": 1}]))
    claims = {
        "a drawn token": (many - one) / _NEW_TOKENS,
        f"a request of {_PROMPT_CHARS} characters and one token": prompted,
    }
    return [
        Row(f"{claim}, {name}, one thread", "ms", round(ms, 3), higher_is_better=False, repeats=_REQUESTS)
        for claim, ms in claims.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace.at(parser.parse_args().workspace)
    bundle = open_bundle(workspace.bundle)
    encoder = bundle.encoder
    assert isinstance(encoder, DocumentEncoder)
    rows = read_validation(workspace.splits)
    training = [str(row["text"]) for row in read_rows(workspace.splits / "train") if row["parent_id"] is None]
    ours = judge_documents(rows, Predictor(bundle, workers=2).outputs(rows), encoder)
    rate = value(bits_per_byte, ours)
    ngrams, compressed = _peers(encoder, training, [str(row["text"]) for row in rows])
    sizes = f"{len(rows):,} unseen files, trained on {sum(len(text.encode()) for text in training) / 1e6:.1f} MB"
    results = []
    for peer, bits_N in ngrams.items():
        theirs = _with_bits(ours, bits_N)
        gain = paired_difference(bits_per_byte, ours, theirs, config=EvaluateConfig(), seed=1)
        compressed = {peer: value(bits_per_byte, theirs), **compressed}
        print(f"{peer}: ours less theirs {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})")
    for peer, theirs_rate in compressed.items():
        print(f"bits per byte: {rate:.4f} against {theirs_rate:.4f}, {peer}")
        results.append(
            Row(
                f"bits per byte of {sizes}",
                "bits/byte",
                round(rate, 4),
                peer=peer,
                theirs=round(theirs_rate, 4),
                bar=1.0,
                higher_is_better=False,
            )
        )
    results += _speeds(workspace, str(rows[0]["text"]))
    print(write_results("language_modelling", results, packages=("torch", "onnxruntime", "tokenizers")))


if __name__ == "__main__":
    main()
