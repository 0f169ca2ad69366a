"""Error rates: equal to a reference, summed over rows before they are divided, and what the report shows of them."""

import csv
import random
from functools import cache

import numpy as np
import pytest

from noria.config import EvaluateConfig
from noria.evaluation.bootstrap import interval
from noria.evaluation.metrics import value
from noria.evaluation.transcripts import METRICS, counts, edits, judge_transcripts, write_transcript_report

SAID = ["one two three", "seven", "seven", "no", "up"]
HEARD = ["one too three four", "seven", "eleven", "", "up"]


def judged(said=SAID, heard=HEARD, speakers=("ann", "ann", "bob", "bob", "eve")):
    rows = [
        {"id": f"r{i}", "text": text, "speaker": speaker, "duration_s": 0.4}
        for i, (text, speaker) in enumerate(zip(said, speakers, strict=True))
    ]
    return judge_transcripts(
        rows,
        said=said,
        heard=heard,
        confidence=[0.5] * len(said),
        slices=lambda row: {f"speaker {row['speaker']}": True},
    )


def by_the_definition(one: str, other: str) -> int:
    @cache
    def least(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(least(i - 1, j) + 1, least(i, j - 1) + 1, least(i - 1, j - 1) + (one[i - 1] != other[j - 1]))

    return least(len(one), len(other))


def test_edits_are_those_of_the_definition():
    draw = random.Random(0)
    for _ in range(300):
        one, other = ("".join(draw.choices("abc", k=draw.randrange(9))) for _ in range(2))
        assert edits(one, other) == by_the_definition(one, other)


def test_error_rates_are_those_of_jiwer():
    jiwer = pytest.importorskip("jiwer")
    pytest.importorskip("rapidfuzz")
    found = judged()
    assert 1 - value(METRICS["word_accuracy"], found) == pytest.approx(jiwer.wer(SAID, HEARD))
    assert value(METRICS["character_error_rate"], found) == pytest.approx(jiwer.cer(SAID, HEARD))


def test_error_rates_weigh_rows_by_their_length():
    found = judged()
    assert value(METRICS["word_accuracy"], found) == pytest.approx(1 - (2 + 0 + 1 + 1 + 0) / 7)
    assert value(METRICS["character_error_rate"], found) == pytest.approx((6 + 0 + 2 + 2 + 0) / 27)
    assert value(METRICS["exact_match"], found) == pytest.approx(2 / 5)


def test_a_resample_counts_rows_as_often_as_it_draws_them():
    weights = np.array([[2.0, 0, 0, 1, 0]])
    assert METRICS["word_accuracy"](judged(), weights)[0] == pytest.approx(1 - (2 * 2 + 1) / 7)
    estimate = interval(METRICS["word_accuracy"], judged(), config=EvaluateConfig(resamples=200), seed=0)
    assert estimate.low <= estimate.value <= estimate.high and estimate.low < estimate.high


def test_nothing_heard_costs_all_that_was_said():
    assert counts("one two", "") == (2, 2, 7, 7, 0)


def test_the_trivial_answer_is_the_most_frequent_transcript():
    trivial = judged().trivially_answered()
    assert value(METRICS["exact_match"], trivial) == pytest.approx(2 / 5)


def test_many_speakers_are_no_slices():
    speakers = [f"s{i}" for i in range(60)]
    few, many = judged(), judged(["a"] * 60, ["a"] * 60, speakers)
    assert "speaker ann" in few.slices and not many.slices


def test_the_report_shows_what_was_misheard_and_by_whom(tmp_path):
    found = judged()
    write_transcript_report(found, [f"{i}.wav:1" for i in range(5)], tmp_path)
    with (tmp_path / "worst.csv").open(encoding="utf-8") as file:
        worst = list(csv.DictReader(file))
    assert [(row["said"], row["heard"], row["origin"]) for row in worst] == [
        ("no", "", "3.wav:1"),
        ("one two three", "one too three four", "0.wav:1"),
        ("seven", "eleven", "2.wav:1"),
    ]
    with (tmp_path / "misheard.csv").open(encoding="utf-8") as file:
        assert {(row["said"], row["heard"]): row["rows"] for row in csv.DictReader(file)}["seven", "eleven"] == "1"
    assert (tmp_path / "wer_by_speaker.png").stat().st_size > 5_000
