"""Text: what is measured as a fault is repaired or refused, and nothing else is touched."""

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import AugmentConfig, CleanConfig
from noria.data.mojibake import is_mojibake
from noria.data.text import MEASURED, augment, duplicate_key, han_share, measure, repair, repair_text

GOOD = "物流很快，质量很好！"
DIRTY_PIECES = st.sampled_from(
    ["很好", "，", " ", "&lt;", "&amp;", "<br>", "<b", "/>", "&#183;", "&#0;", "\x00", "\x85", "\u200b", "\ufeff", "é",
     "ç‰©", "ÖÊÁ¿", "鐗╂祦", "~{N@", "~}", "Ａ１", "e\u0301", "\ufffd", "👨\u200d👩", "<!--", "-->", "<script>"]
)  # fmt: skip
DIRTY = st.one_of(st.text(max_size=30), st.lists(DIRTY_PIECES, max_size=8).map("".join))


@pytest.mark.parametrize(
    ("text", "repaired", "by"),
    [
        (GOOD, GOOD, ()),
        (GOOD.encode().decode("latin-1"), GOOD, ("mojibake",)),
        (GOOD.encode().decode("gb18030"), GOOD, ("mojibake",)),
        ("质量很好".encode("gb2312").decode("latin-1"), "质量很好", ("mojibake",)),
        ("~{N@Iz<dC;SP4rI(8I>;~}，很差", "卫生间没有打扫干净，很差", ("mojibake",)),
        ("<p>很好<br/>推荐</p>", "很好 推荐", ("html", "whitespace")),
        ("&lt;b&gt;很好&lt;/b&gt;&amp;推荐", "很好 &推荐", ("html", "whitespace")),
        ("房&#38388;很大<script>alert('x')</script>", "房间很大", ("html", "whitespace")),
        ("很\x00好\u200b，\ufeff推\x1b荐\u202e", "很好，推荐", ("control_characters",)),
        ("买了Ａ５纸，　不错", "买了A5纸， 不错", ("unicode", "whitespace")),
        ("cafe\u0301很好", "café很好", ("unicode",)),
        ("  很好\r\n\t推荐 ", "很好 推荐", ("whitespace",)),
        ("很好\ud83d\ude00", "很好😀", ("surrogates",)),
    ],
)
def test_repairs_what_is_broken_and_says_how(text, repaired, by):
    assert repair_text(text) == (repaired, by)


@pytest.mark.parametrize("hostile", ["<!--", "<script>", "&amp;amp;"])
def test_a_text_that_no_repair_should_try_is_refused_at_once(hostile):
    before = time.perf_counter()
    repaired = repair({"text": hostile * 100_000}, CleanConfig())
    assert repaired.rule == "too_long"
    assert time.perf_counter() - before < 1


@pytest.mark.parametrize(
    "text",
    [
        "一家三口👨‍👩‍👧都喜欢❤️",
        "《围城》<围城>a<b，c>d，1&2",
        "①…℃㎡～",
        "été à la plage, déjà vu",
        "联通",
        "谢谢!",
        "Здравствуйте，Ελλάδα",
        "价格￥99，“好”",
    ],
)
def test_leaves_honest_text_as_it_is(text):
    assert repair_text(text) == (text, ())
    assert not is_mojibake(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (None, "empty"),
        ("\u200b <br> ", "empty"),
        ("好", "too_short"),
        ("好" * 2_001, "too_long"),
        ("Nothing Chinese in here", "wrong_script"),
        ("12345", "wrong_script"),
        ("很好\ufffd很好", "replacement_character"),
        ("很好\ud83d很好", "replacement_character"),
        ("物流ç‰©æµå¾ˆå¿«", "mojibake"),
    ],
)
def test_refuses_what_it_cannot_repair(text, rule):
    result = repair({"text": text, "label": "pos"}, CleanConfig())
    assert (result.values, result.rule) == (None, rule)
    assert result.reason


@settings(deadline=None, max_examples=300)
@given(text=DIRTY)
def test_repair_is_idempotent_and_leaves_no_fault_that_the_gate_measures(text):
    once, _ = repair_text(text)
    assert repair_text(once) == (once, ())
    result = repair({"text": text, "label": "pos"}, CleanConfig(min_chars=1, min_han_share=0.0))
    if result.values is not None:
        measured = measure(pa.RecordBatch.from_pylist([result.values])).to_pylist()[0]
        assert measured["num_control_chars"] == 0
        assert not (measured["has_mojibake"] or measured["has_html"] or measured["has_replacement"])


def test_measures_each_row_for_itself_and_a_null_as_empty():
    texts = ["好a1", None, "", "\x00<br>", "\ufffd", "〇𠀀ab"]
    measured = measure(pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.string())}))
    assert measured.schema.names == ["text", *(field.name for field in MEASURED)]
    rows = measured.to_pylist()
    assert [row["num_chars"] for row in rows] == [3, 0, 0, 5, 1, 4]
    assert [row["han_share"] for row in rows] == [0.5, 0.0, 0.0, 0.0, 0.0, 0.5]
    assert [row["num_control_chars"] for row in rows] == [0, 0, 0, 1, 0, 0]
    assert [row["has_html"] for row in rows] == [False, False, False, True, False, False]
    assert [row["has_replacement"] for row in rows] == [False, False, False, False, True, False]


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=20), max_size=5))
def test_han_share_is_the_same_in_a_batch_and_alone(texts):
    measured = measure(pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.string())}))
    assert measured.column("han_share").to_pylist() == pytest.approx([han_share(text) for text in texts])


def test_duplicate_key_sees_through_case_width_and_punctuation_only():
    assert duplicate_key({"text": "很 好！ＡＢＣ"}) == duplicate_key({"text": "很好，abc"})
    assert duplicate_key({"text": "很好"}) != duplicate_key({"text": "不好"})
    assert duplicate_key({"text": "！ ！"}) == "!!"


def test_augmentation_is_a_function_of_the_generator_and_keeps_the_label():
    values = {"text": "物流很快，质量很好，下次再来。", "label": "pos"}
    config = AugmentConfig(share=1)
    first, second = (augment(values, config, np.random.default_rng(7)) for _ in range(2))
    assert first == second != values
    assert first["label"] == "pos"
    off = AugmentConfig(share=1, delete_chars=0, swap_chars=0, shuffle_clauses=False)
    assert augment(values, off, np.random.default_rng(7)) is None


def test_shuffled_clauses_hold_the_same_characters():
    values = {"text": "物流很快，质量很好，下次再来。", "label": "pos"}
    config = AugmentConfig(share=1, delete_chars=0, swap_chars=0)
    changed = augment(values, config, np.random.default_rng(2))
    assert sorted(changed["text"]) == sorted(values["text"])
