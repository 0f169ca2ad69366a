import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import TokenizerConfig, WideConfig
from noria.data import ngrams
from noria.data.ngrams import fit_ngrams
from noria.data.text_encoder import PAD, UNKNOWN, TextEncoder, fit_text_encoder, load_text_encoder, normalize
from noria.errors import TrainingError

ROWS = [
    {"text": text, "label": label}
    for text, label in [
        ("质量很好，物流很快。", "pos"),
        ("质量太差，再也不买！", "neg"),
        ("物流很快，很满意", "pos"),
        ("太差了，很失望", "neg"),
        ("酒店 WIFI 不错", "pos"),
    ]
    for _ in range(3)
]


def fit(*, wide: WideConfig | None = None, max_tokens: int = 8) -> TextEncoder:
    return fit_text_encoder(
        ROWS,
        text_column="text",
        label_column="label",
        tokenizer=TokenizerConfig(vocabulary_size=60, max_tokens=max_tokens),
        wide=wide or WideConfig(),
    )


ENCODER = fit()


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
@settings(deadline=None)
def test_encoding_a_batch_is_encoding_its_rows(texts: list[str]) -> None:
    rows = [{"text": text} for text in texts]
    for together, row in zip(ENCODER.encode_batch(rows), rows, strict=True):
        alone = ENCODER.encode(row)
        assert together.keys() == alone.keys()
        assert all(np.array_equal(together[name], alone[name]) for name in alone)
        assert 1 <= ENCODER.num_tokens(alone) <= 8
        assert PAD not in alone["token_ids"] and 0 not in alone["ngram_ids"]
        length = np.linalg.norm(alone["ngram_values"])
        assert length == pytest.approx(1.0, abs=1e-5) or not len(alone["ngram_ids"])


def test_a_text_that_grows_without_end_keeps_its_head_and_tail() -> None:
    long = normalize("头" + "\ufdfa" * 20_000 + "尾")
    assert len(long) == 20_000 and long[0] == "头" and long[-1] == "尾"
    assert normalize("好" * 20_000) == "好" * 20_000


def test_no_rows_are_encoded_to_none() -> None:
    assert ENCODER.encode_batch([]) == []


def test_features_do_not_depend_on_what_is_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*ROWS, {"text": ""}, {"text": "质量很好" * 9}]
    whole = ENCODER.encode_batch(rows)
    monkeypatch.setattr(ngrams, "_CHUNK_CHARS", 20)
    for together, apart in zip(whole, ENCODER.encode_batch(rows), strict=True):
        assert all(np.array_equal(together[name], apart[name]) for name in together)


def test_a_saved_encoder_reads_back_the_same(tmp_path: Path) -> None:
    ENCODER.save(tmp_path)
    read = load_text_encoder(tmp_path)
    assert read.labels == ("neg", "pos") and read.num_ngrams == ENCODER.num_ngrams
    for row in ROWS:
        for name, array in ENCODER.encode(row).items():
            assert np.array_equal(read.encode(row)[name], array)


def test_fitting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        fit().save(tmp_path / name)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_a_long_row_keeps_its_head_and_tail() -> None:
    whole = fit(max_tokens=1_000)
    text = {"text": "质量很好，" + "物流很快。" * 20 + "很失望"}
    every, kept = whole.encode(text)["token_ids"], ENCODER.encode(text)["token_ids"]
    assert len(every) > 8
    assert np.array_equal(kept, np.concatenate([every[:4], every[-4:]]))


def test_full_width_case_and_spaces_do_not_matter() -> None:
    for name, array in ENCODER.encode({"text": " 酒店  ＷｉＦｉ 不错"}).items():
        assert np.array_equal(array, ENCODER.encode({"text": "酒店 wifi 不错"})[name])


def test_an_empty_text_is_unknown() -> None:
    encoded = ENCODER.encode({"text": ""})
    assert encoded["token_ids"].tolist() == [UNKNOWN]
    assert ENCODER.collate([encoded])["ngram_ids"].tolist() == [[0]]


def test_collate_pads_with_zeros() -> None:
    batch = ENCODER.collate(ENCODER.encode_batch(ROWS))
    assert {name: array.dtype for name, array in batch.items()} == {
        "token_ids": np.int64,
        "ngram_ids": np.int64,
        "ngram_values": np.float32,
    }
    assert all(len(array) == len(ROWS) for array in batch.values())


def test_ngram_values_are_those_of_the_definition() -> None:
    texts = ["很好很好", "很差", "好"]
    features = fit_ngrams(texts, max_ngram=2, min_rows=1)
    grams = [[text[i : i + n] for n in (1, 2) for i in range(len(text) - n + 1)] for text in texts]
    assert len(features) == len({gram for row in grams for gram in row})
    ids, values = features.encode(texts)
    for row, found in enumerate(grams):
        idf = {g: np.log((1 + 3) / (1 + sum(g in other for other in grams))) + 1 for g in found}
        expected = np.asarray([(1 + np.log(found.count(g))) * idf[g] for g in idf])
        assert np.allclose(sorted(values[row]), sorted(expected / np.linalg.norm(expected)), atol=1e-6)
        assert len(set(ids[row].tolist())) == len(idf)


def test_rare_ngrams_are_left_out() -> None:
    assert len(fit_ngrams(["很好", "很差"], max_ngram=1, min_rows=2)) == 1


def test_without_the_wide_branch_there_are_only_tokens(tmp_path: Path) -> None:
    encoder = fit(wide=WideConfig(enabled=False))
    assert encoder.encode(ROWS[0]).keys() == {"token_ids"}
    encoder.save(tmp_path)
    assert load_text_encoder(tmp_path).encode(ROWS[0]).keys() == {"token_ids"}


def test_one_class_is_refused() -> None:
    with pytest.raises(TrainingError, match="1 class"):
        fit_text_encoder(
            ROWS[:3], text_column="text", label_column="label", tokenizer=TokenizerConfig(), wide=WideConfig()
        )


def test_neither_encoder_nor_scenario_imports_torch() -> None:
    code = "import sys, noria.scenarios.text_classification; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
