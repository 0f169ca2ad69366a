"""Bits per byte: what the model's own logits say, of whole documents, and a report that any text can be in."""

import numpy as np
import pytest
import torch

from noria.config import GenerationConfig, ModelConfig, TokenizerConfig
from noria.data.document_encoder import DOCUMENT, DocumentEncoder, fit_document_encoder
from noria.evaluation.judged import Judged
from noria.evaluation.language import bits_per_byte, compression, judge_documents
from noria.evaluation.language_report import write_language_report
from noria.evaluation.metrics import value
from noria.evaluation.torch_run import torch_outputs
from noria.model.language_model import LanguageModel

TEXTS = [
    "def f(x):\n    return x\n",
    "من اليمين إلى اليسار 👩‍👩‍👧‍👦\n" * 9,
    "",
    "| a | `table` <b>\n" * 40,
    "x\n" * 300,
]


@pytest.fixture(scope="module")
def encoder() -> DocumentEncoder:
    rows = [{"text": text * 3} for text in TEXTS]
    return fit_document_encoder(
        rows, tokenizer=TokenizerConfig(vocabulary_size=300, max_tokens=64), generation=GenerationConfig(max_tokens=8)
    )


@pytest.fixture(scope="module")
def model(encoder: DocumentEncoder) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(layers=1, dim=16, heads=2, feed_forward_dim=16, positions="rotary", bigram_buckets=16)
    made = LanguageModel(config, vocabulary_size=encoder.vocabulary_size, max_tokens=64).eval()
    with torch.no_grad():
        made.frontend.tokens.mul_(10)
    return made


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return [{"id": str(n), "text": text, "name": f"{n}.py"} for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def judged(model, encoder, rows) -> Judged:
    return judge_documents(rows, torch_outputs(model, rows, encoder=encoder), encoder)


def test_bits_are_those_of_the_logits_and_bytes_those_of_the_text(model, encoder, rows, judged) -> None:
    for row, (bits, num_bytes, num_tokens) in zip(rows, judged.outputs, strict=True):
        document = torch.from_numpy(encoder.encode(row)[DOCUMENT].astype(np.int64))
        assert (num_bytes, num_tokens) == (len(str(row["text"]).encode()), len(document) - 1)
        if len(document) <= 65:  # one window: the whole document is its own context
            with torch.inference_mode():
                loss = torch.nn.functional.cross_entropy(model.logits(document[None, :-1])[0], document[1:])
            assert bits == pytest.approx(float(loss) * (len(document) - 1) / np.log(2), rel=1e-5)
    total = judged.outputs.sum(axis=0)
    assert value(bits_per_byte, judged) == pytest.approx(total[0] / total[1])
    assert value(compression, judged) == pytest.approx(1 - total[0] / total[1] / 8)


def test_the_trivial_answer_is_the_entropy_of_the_bytes(judged: Judged) -> None:
    counts = np.bincount(np.frombuffer("".join(TEXTS).encode(), np.uint8))
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log2(shares)).sum()
    assert value(bits_per_byte, judged.trivially_answered()) == pytest.approx(entropy)


def test_a_report_is_written_of_any_text(model, encoder, rows, judged, tmp_path) -> None:
    write_language_report(rows, torch_outputs(model, rows, encoder=encoder), judged, encoder, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "bits_by_place.png",
        "bits_by_length.png",
        "documents.md",
        "continuations.md",
    }
    assert "| .py | 5 |" in (tmp_path / "documents.md").read_text(encoding="utf-8")
