"""Answers survive tokenization: what is cut into tokens and windows comes back as the same characters."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import SpansConfig, TokenizerConfig
from noria.data.span_encoder import LOGITS, THERE_AND_ASKED, SpanEncoder, fit_span_encoder, fold, load_span_encoder
from noria.data.windows import best_span, windows_of
from noria.errors import ArtifactError, TrainingError

SPANS = SpansConfig(overlap=8, max_question_tokens=6, max_answer_tokens=10)
ROWS = [
    {"context": "Anna lives in a small village near Oslo.", "question": "Where does Anna live?", "answer": "Oslo"},
    {"context": "小明喜欢红色。👨‍👩‍👧 family", "question": "什么颜色？", "answer": ""},
    {"context": "שָׁלוֹם עולם: the café was closed", "question": "What was closed?", "answer": "the café"},
]
WORDS = (
    *("Anna", "red", "42", "café", "cafe\u0301", "İstanbul", "नमस्ते", "שָׁלוֹם", "مرحبا", "中", "文", "ก", "한"),
    *("😀", "👨‍👩‍👧", "👍🏽", "🇳🇴"[0], "…", "(", "_", "\u0301", "ß", "Σ", "ΑΣ", "\x07"),
)


@pytest.fixture(scope="module")
def encoder() -> SpanEncoder:
    return fit_span_encoder(ROWS, tokenizer=TokenizerConfig(vocabulary_size=300, max_tokens=24), spans=SPANS)


def certain(encoder: SpanEncoder, row: dict, span: tuple[int, int]) -> dict[str, np.ndarray]:
    """Outputs of a model that is sure of a span (or of none) in every window that has it."""
    outputs = []
    encoded = encoder.encode(row)
    windows = encoder.windows(len(encoded["question"]), len(encoded["context"]))
    for window, piece in zip(windows, encoder.pieces(encoded), strict=True):
        logits = np.zeros((len(piece["token_ids"]), 2), np.float32)
        inside = window.first <= span[0] and span[1] < window.last and span[0] >= 0
        for end in range(2):
            logits[window.offset + span[end] - window.first if inside else 0, end] = 20.0
        outputs.append({LOGITS: logits})
    return encoder.join(outputs)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40), st.data())
def test_an_answer_of_whole_words_comes_back_letter_by_letter(encoder, words, data):
    context = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 2, len(words) - 1)))
    start = len(" ".join([*words[:first], ""])) if first else 0
    answer = " ".join(words[first : last + 1])
    row = {"context": context, "question": "What is it?", "answer": answer, "answer_start": str(start)}
    (target,) = encoder.targets([row])
    if target is None:
        assert len(encoder.tokens(answer).ids) > SPANS.max_answer_tokens
        return
    span = tuple(target["span"].tolist())
    (found,) = encoder.answers([row], [certain(encoder, row, span)])
    encoded = encoder.encode(row)
    windows = encoder.windows(len(encoded["question"]), len(encoded["context"]))
    if any(w.first <= span[0] and span[1] < w.last for w in windows):
        assert (found.text, found.start, found.end) == (answer, start, start + len(answer))
        assert found.score == pytest.approx(1.0, abs=1e-3)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60), st.data())
def test_any_part_of_any_text_is_covered_by_the_fewest_words(encoder, context, data):
    start = data.draw(st.integers(0, len(context)))
    end = data.draw(st.integers(start, len(context)))
    tokens = encoder.tokens(context)
    assert (np.diff(tokens.starts) >= 0).all() and (tokens.ends > tokens.starts).all()
    assert "".join(context[a:b] for a, b in dict.fromkeys(zip(tokens.starts, tokens.ends, strict=True))).split() == (
        "".join(context.split()).split()
    ) or any(map(str.isspace, context))
    cover = tokens.cover(start, end)
    if cover is None:
        assert not context[start:end].strip()
        return
    first, last = cover
    assert tokens.begins[first] and tokens.closes[last]
    assert tokens.starts[first] <= start + len(context[start:end]) - len(context[start:end].lstrip())
    assert tokens.ends[last] >= end - (len(context[start:end]) - len(context[start:end].rstrip()))
    assert tokens.ends[first] > start and tokens.starts[last] < end


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_folding_case_keeps_every_offset(text):
    folded = fold(text)
    assert len(folded) == len(text)
    assert all(new in (old, old.lower()) or old == "Σ" for old, new in zip(text, folded, strict=True))


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(0, 300), st.integers(1, 40))
def test_windows_cover_a_context_in_order_and_overlap(num_question, num_context, overlap):
    windows = windows_of(num_question, num_context, max_tokens=48, overlap=overlap)
    assert windows[0].first == 0 and windows[-1].last == num_context
    assert all(w.offset + w.last - w.first <= 48 for w in windows)
    room = 48 - num_question - 2
    shared = min(overlap, room // 2)
    assert all(b.first == a.first + room - shared and a.last - b.first == shared for a, b in pairwise(windows))
    assert len({w.last for w in windows}) == len(windows)


def brute_force(logits, windows, begins, ends, most, refuse):
    best = (-np.inf, (-1, -1))
    for w, window in zip(logits, windows, strict=True):
        read = np.concatenate([w[:1], w[window.offset : window.offset + window.last - window.first]]).astype(float)
        log_p = read - np.log(np.exp(read).sum(axis=0))
        for i in range(window.first, window.last):
            for j in range(i, min(i + most, window.last)):
                if begins[i] and ends[j]:
                    odds = log_p[1 + i - window.first, 0] + log_p[1 + j - window.first, 1] - log_p[0].sum()
                    best = max(best, (odds, (i, j)), key=lambda pair: pair[0])
    return (-1, -1) if refuse and best[0] < 0 else best[1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 30), st.booleans())
def test_the_best_span_is_that_of_a_search_over_all(seed, num_context, refuse):
    draw = np.random.default_rng(seed)
    windows = windows_of(3, num_context, max_tokens=16, overlap=4)
    logits = draw.normal(size=(len(windows), 16, 2)).astype(np.float32)
    begins, ends = draw.random((2, num_context)) < 0.6
    span = best_span(logits, windows, begins_C=begins, ends_C=ends, max_answer_tokens=5, may_refuse=refuse)
    assert (span.first, span.last) == brute_force(logits, windows, begins, ends, 5, refuse)
    assert 0 <= span.score <= 1


def test_a_long_context_is_read_in_windows_and_its_answer_found_in_any(encoder):
    context = " ".join(f"w{n}" for n in range(200)) + " the end."
    row = {"context": context, "question": "Where does it end?", "answer": "the end", "answer_start": ""}
    pieces = encoder.pieces(encoder.encode(row))
    assert len(pieces) > 5 and all(len(piece["token_ids"]) <= encoder.max_tokens for piece in pieces)
    (target,) = encoder.targets([row])
    (found,) = encoder.answers([row], [certain(encoder, row, tuple(target["span"].tolist()))])
    assert found.text == "the end" and context[found.start : found.end] == "the end"


def test_a_long_question_keeps_head_and_tail_and_leaves_room_for_the_context(encoder):
    row = {"context": "Anna is here", "question": " ".join(f"q{n}" for n in range(500)), "answer": ""}
    encoded = encoder.encode(row)
    assert len(encoded["question"]) == len(encoded["question_kinds"]) == SPANS.max_question_tokens
    (found,) = encoder.answers([row], [certain(encoder, row, (-1, -1))])
    assert (found.text, found.start, found.end) == ("", -1, -1)


def test_words_of_the_question_are_marked_in_the_context_whatever_their_case(encoder):
    encoded = encoder.encode({"context": "ANNA, not Bo.", "question": "anna?"})
    tokens = encoder.tokens("ANNA, not Bo.")
    places = zip(tokens.starts, tokens.ends, encoded["context_kinds"], strict=True)
    marked = {"ANNA, not Bo."[start:end] for start, end, kind in places if kind == THERE_AND_ASKED}
    assert marked == {"ANNA"}


def test_only_rows_that_can_be_learned_have_targets(encoder):
    context = "red and red " + "x " * 30
    rows = [
        {"context": context, "question": "?", "answer": "red", "answer_start": ""},
        {"context": context, "question": "?", "answer": "blue", "answer_start": "0"},
        {"context": context, "question": "?", "answer": ("x " * 20).strip(), "answer_start": "12"},
        {"context": context, "question": "?", "answer": "", "answer_start": ""},
        {"context": context, "question": "?", "answer": "red", "answer_start": "8"},
    ]
    found = encoder.targets(rows)
    assert found[:3] == [None] * 3 and found[3]["span"].tolist() == [-1, -1] and found[4] is not None


@pytest.mark.parametrize("context", ["", " \n ", "\u200d", "\x00", "a" * 50_000, "😀" * 3_000, "[PAD] [NO ANSWER]"])
def test_any_context_is_read_and_answered(encoder, context):
    row = {"context": context, "question": context[:100] or "?", "answer": "", "answer_start": ""}
    (found,) = encoder.answers([row], [certain(encoder, row, (-1, -1))])
    assert found.text == context[found.start : found.end] if found.start >= 0 else found.text == ""


def test_without_unanswerable_rows_there_is_always_an_answer(encoder):
    always = fit_span_encoder(ROWS[:1], tokenizer=TokenizerConfig(vocabulary_size=300, max_tokens=24), spans=SPANS)
    row = {**ROWS[0], "answer_start": ""}
    assert always.answers([row], [certain(always, row, (-1, -1))])[0].text
    assert encoder.answers([row], [certain(encoder, row, (-1, -1))])[0].text == ""


def test_what_is_saved_reads_the_same(encoder, tmp_path):
    encoder.save(tmp_path)
    loaded = load_span_encoder(tmp_path)
    for one, other in zip(encoder.encode_batch(ROWS), loaded.encode_batch(ROWS), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert loaded.max_tokens == encoder.max_tokens and loaded.vocabulary_size == encoder.vocabulary_size
    with pytest.raises(ArtifactError):
        load_span_encoder(tmp_path / "nowhere")
    with pytest.raises(TrainingError):
        fit_span_encoder([], tokenizer=TokenizerConfig(), spans=SPANS)


def test_questions_that_leave_no_room_for_a_context_are_an_error_of_the_configuration():
    with pytest.raises(TrainingError, match="over half of a window"):
        fit_span_encoder(ROWS, tokenizer=TokenizerConfig(vocabulary_size=300, max_tokens=15), spans=SPANS)
