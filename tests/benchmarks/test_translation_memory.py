"""The peer of the translation benchmark finds the nearest source, as sacrebleu's chrF has it."""

import random

import pytest

from benchmarks.translation import TranslationMemory

sacrebleu = pytest.importorskip("sacrebleu")


def test_the_memory_answers_with_the_translation_of_the_nearest_source():
    draw = random.Random(0)
    words = ["save", "delete", "open", "the", "page", "file", "user", "list", "of", "every", "new", "%s", "now"]
    sources = [" ".join(draw.choices(words, k=draw.randint(1, 6))) for _ in range(60)]
    memory = TranslationMemory(sources, [f"{number}" for number in range(60)])
    chrf = sacrebleu.CHRF()
    for query in [" ".join(draw.choices(words, k=draw.randint(1, 6))) for _ in range(30)]:
        scores = [chrf.sentence_score(source, [query]).score for source in sources]
        found = int(memory.answer(query))
        assert scores[found] == pytest.approx(max(scores), abs=1e-9)


def test_a_query_that_shares_nothing_gets_an_answer_all_the_same():
    assert TranslationMemory(["abc", "def"], ["1", "2"]).answer("xyz") in ("1", "2")
    assert TranslationMemory(["abc"], ["1"]).answer("") == "1"
