"""Pairs as data: what is measured is what is repaired or refused, and placeholders survive."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.config import AugmentConfig, CleanConfig, TokenizerConfig
from noria.data.pair_encoder import BEGIN, END, NUM_SLOTS, bleu_tokens_of, fit_pair_encoder, load_pair_encoder
from noria.data.placeholders import mend_placeholders, placeholders, same_placeholders
from noria.data.translation import augment, duplicate_key, measure, repair
from noria.scenarios.translation import SCHEMA

CONFIG = CleanConfig(min_chars=1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%s of %(name)s", ["%s", "%(name)s"]),
        ("%1$s, %.2f, %5d and %%", ["%1$s", "%.2f", "%5d", "%%"]),
        ("50% discount, 100%", []),
        ("{} {0} {name} {x:.1f}", ["{}", "{0}", "{name}", "{x:.1f}"]),
        ("{{ user }} {% if a %}", ["{{user}}", "{%ifa%}"]),
        ("<b>x</B> <br/> <a href='y'>z</a>", ["<b>", "</b>", "<br>", "<a>", "</a>"]),
        ("a < b > c, <3, x<y", []),
        ("", []),
    ],
)
def test_placeholders_are_found_and_what_only_looks_like_one_is_not(text, found):
    assert sorted(placeholders(text).elements()) == sorted(found)


@pytest.mark.parametrize(
    ("source", "target", "mended"),
    [
        ("Lost %s", "丢失 ％s", "丢失 %s"),
        ("By %(who)s", "由 %（who）s", "由 %(who)s"),
        ("By %(who)s", "由 % (who)s", "由 %(who)s"),
        ("Hi {name}", "你好 ｛name｝", "你好 {name}"),
        ("<b>x</b>", "＜b＞一＜/b＞", "<b>一</b>"),
        ("100 %", "100 ％", "100 ％"),
        ("Lost %s", "丢失", "丢失"),
    ],
)
def test_a_placeholder_in_full_width_is_made_what_it_was_and_nothing_else_is_touched(source, target, mended):
    assert mend_placeholders(source, target) == mended
    assert same_placeholders(source, mended) == (mended != "丢失")


@pytest.mark.parametrize(
    ("source", "target", "rule"),
    [
        (None, "a", "empty"),
        ("a", "  \x07 ", "empty"),
        ("a", "b\ufffd", "replacement_character"),
        ("Save", " save ", "untranslated"),
        ("No", "x" * 300, "length_ratio"),
        ("%s pages", "页", "placeholders"),
        ("pages", "%d 页", "placeholders"),
        ("a" * 3_000, "b" * 3_000, "too_long"),
        ("<" * 30_000, "b", "too_long"),
    ],
)
def test_a_pair_that_teaches_nothing_right_is_refused_with_its_rule(source, target, rule):
    assert repair({"source": source, "target": target}, CONFIG).rule == rule


def test_what_is_repaired_passes_what_is_measured():
    pairs = [
        ("Lost\x07 %s", "丢失  ％s"),
        ("<b>Bold</b> &amp; more", "<b>粗</b> &amp; 多"),
        ("Caf\u0065\u0301", "咖啡"),
    ]
    for source, target in pairs:
        repaired = repair({"source": source, "target": target}, CONFIG)
        assert repaired.values is not None and repaired.values == repair(repaired.values, CONFIG).values
        (row,) = measure(pa.RecordBatch.from_pylist([dict(repaired.values)], schema=SCHEMA)).to_pylist()
        assert not any(row[flag] for flag in ("has_other_placeholders", "is_copy", "has_mojibake", "has_replacement"))
        assert row["num_control_chars"] == 0 and row["length_ratio"] < 4
    assert repair({"source": "<b>a</b>", "target": "<b>一</b>"}, CONFIG).values["source"] == "<b>a</b>"


def test_equal_sources_are_one_whatever_their_case_and_punctuation():
    assert duplicate_key({"source": "Save as…"}) == duplicate_key({"source": "save AS"})
    assert duplicate_key({"source": "Save"}) != duplicate_key({"source": "Saved"})


def test_augmenting_leaves_the_translation_right():
    rng = np.random.default_rng(0)
    config = AugmentConfig()
    assert augment({"source": "Save it.", "target": "保存。"}, config, rng) == {"source": "Save it", "target": "保存"}
    assert augment({"source": "Save it", "target": "保存"}, config, rng) == {"source": "save it", "target": "保存"}
    assert augment({"source": "save", "target": "保存"}, config, rng) is None
    assert augment({"source": "URL", "target": "网址"}, config, rng) is None


@pytest.fixture(scope="module")
def encoder():
    words = ["Save", "Delete", "the page", "%(name)s", "保存", "删除", "页面"]
    rows = [{"source": f"{a} {b}", "target": f"{b}{a}"} for a in words for b in words]
    return fit_pair_encoder(
        rows, source_column="source", target_column="target", config=TokenizerConfig(vocabulary_size=320, max_tokens=60)
    )


@pytest.mark.parametrize(
    "text",
    ["Save THE page", "[PAD][BEGIN] [END] </s>", "ünïcödé 日本 🙂 ▁ Ġ", "%(name)s\t{x}\n<b>", "𠀀\u200d", "a  b"],
)
def test_no_character_of_any_text_is_lost_and_no_text_is_a_special_token(encoder, text):
    for source in (text, "a"):
        (target,) = encoder.targets([{"source": source, "target": text}])
        tokens = target["target"]
        assert tokens[0] == BEGIN and tokens[-1] == END and (tokens[1:-1] > END).all()
        assert encoder.decode(tokens[1:], source=source) == text
    assert (
        encoder.encode({"source": text})["source"].tolist()
        == encoder.targets([{"source": text, "target": text}])[0]["target"][1:].tolist()
    )


def slots_in(encoder, source, target):
    """The numbers of the source's placeholders in the order of the target, from 1 on."""
    (learned,) = encoder.targets([{"source": source, "target": target}])
    return [int(token) - END for token in learned["target"] if END < token <= END + NUM_SLOTS]


def test_a_placeholder_is_one_token_which_is_the_same_on_both_sides_and_comes_back_as_the_source_has_it(encoder):
    source, target = "<a href='1'>%(x)s</a> or <a href='2'>%s</a>", "%s <A>甲</A>, %(x)s<A>乙</A>"
    assert slots_in(encoder, source, source) == [1, 2, 3, 4, 5, 6]
    assert slots_in(encoder, source, target) == [5, 1, 3, 2, 4, 6]
    (learned,) = encoder.targets([{"source": source, "target": target}])
    answer = encoder.decode(learned["target"][1:], source=source)
    assert answer == "%s <a href='1'>甲</a>, %(x)s<a href='2'>乙</a>"
    assert encoder.decode(learned["target"][1:], source="no placeholders") == "甲, 乙"


@given(st.permutations(["<a href='1'>", "<a href='2'>", "<A>", "<br>", "<br/>", "{{x}}", "{{ x }}", "%s"]))
def test_placeholders_of_one_name_are_told_apart_where_they_are_written_differently(encoder, shuffled):
    source, target = " ".join(sorted(shuffled)), " ".join(shuffled)
    (learned,) = encoder.targets([{"source": source, "target": target}])
    assert encoder.decode(learned["target"][1:], source=source) == target


def test_an_answer_that_repeats_a_placeholder_gets_it_once(encoder):
    (learned,) = encoder.targets([{"source": "a %s", "target": "%s好"}])
    slot, *spelled = learned["target"][1:-1]
    assert encoder.decode(np.array([slot, *spelled, slot, slot, END]), source="a %s") == "%s好"


@given(st.lists(st.sampled_from(["%s", "%(name)s", "{x}", "<b>", "</b>", "甲", " and ", "é", "%", "{"]), max_size=40))
@example(["%s", "甲"] * 20)
def test_placeholders_beyond_the_numbered_ones_are_spelled_and_nothing_is_lost(encoder, parts):
    text = "".join(parts)
    (learned,) = encoder.targets([{"source": text, "target": text}])
    if learned is not None:
        assert encoder.decode(learned["target"][1:], source=text) == text.strip()
        assert (learned["target"] < encoder.vocabulary_size).all()
        assert slots_in(encoder, text, text) == list(range(1, min(placeholders(text).total(), NUM_SLOTS) + 1))


def test_an_encoder_of_before_spells_placeholders_as_it_did(encoder, tmp_path):
    encoder.save(tmp_path)
    settings = json.loads((tmp_path / "encoder.json").read_text())
    del settings["num_slots"]
    (tmp_path / "encoder.json").write_text(json.dumps(settings))
    before = load_pair_encoder(tmp_path)
    (learned,) = before.targets([{"source": "%s", "target": "%s"}])
    assert len(learned["target"]) == 2 + len("%s") and (learned["target"][1:-1] > END + NUM_SLOTS).all()
    assert before.decode(learned["target"][1:], source="") == "%s"


def test_a_placeholder_beyond_what_is_read_of_a_source_is_not_put_back(encoder):
    source = "x" * 19_999 + "%s"
    assert encoder.decode(np.array([END + 1, END]), source=source) == ""


def test_a_pair_that_is_too_long_is_not_learned_and_a_source_that_is_keeps_its_beginning(encoder):
    long = "x" * 100
    assert encoder.targets([{"source": long, "target": "a"}, {"source": "a", "target": long}]) == [None, None]
    source = encoder.encode({"source": long})["source"]
    assert len(source) == 60 and source[-1] == END


def test_an_answer_ends_at_its_end_and_half_a_character_is_left_out(encoder):
    (half,) = encoder.targets([{"source": "a", "target": "a好"}])
    tokens = half["target"][1:]
    assert encoder.decode(np.array([*tokens[:1], END, *tokens]), source="a") == "a"
    assert encoder.decode(np.array([]), source="a") == ""
    assert encoder.decode(np.array([0, BEGIN, 0]), source="a") == ""


def test_what_was_saved_encodes_the_same(encoder, tmp_path):
    encoder.save(tmp_path)
    loaded = load_pair_encoder(tmp_path)
    row = {"source": "Delete 页面 %(name)s"}
    assert loaded.encode(row)["source"].tolist() == encoder.encode(row)["source"].tolist()
    assert (loaded.vocabulary_size, loaded.max_tokens, loaded.bleu_tokens) == (encoder.vocabulary_size, 60, "13a")


def test_words_are_counted_as_the_target_s_script_has_them():
    assert bleu_tokens_of(["保存 page", "删除页面"]) == "zh"
    assert bleu_tokens_of(["ページを保存", "ファイル"]) == "char"
    assert bleu_tokens_of(["Seite speichern"]) == "13a"
    assert bleu_tokens_of([""]) == "13a"
