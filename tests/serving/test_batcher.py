"""Batches: of like length, within the budget, of one predictor; no wait without need, no harm to neighbours."""

import asyncio
import gc
import threading
import time
import weakref
from contextlib import ExitStack

import pytest
from fake_model import FakePredictor

from noria.serving.batcher import Batcher, Size
from noria.serving.refusal import Refusal


def batcher(*, workers=1, batch_tokens=100, max_delay_s=5.0, done=None):
    return Batcher(
        lambda predictor, items: predictor.answer_encoded(items),
        size_of=lambda encoded: Size(len(encoded.pieces), encoded.longest_tokens),
        workers=workers,
        batch_tokens=batch_tokens,
        max_delay_s=max_delay_s,
        too_late=lambda: Refusal(503, "too late"),
        on_done=lambda items: (done if done is not None else []).append([item.row["text"] for item in items]),
    )


def ask(stack, batches, predictor, *texts, client="", deadline_s=None):
    """The futures of these texts, asked for in one request."""
    deadline_s = time.monotonic() + 20 if deadline_s is None else deadline_s
    rows = predictor.encode([{"text": text} for text in texts])
    return stack.enter_context(batches.asking(rows, client=client, predictor=predictor, deadline_s=deadline_s))


def run(check, **settings):
    """Run an async check of a batcher whose only worker is held up until `hold` is set."""

    async def checked():
        hold = threading.Event()
        predictor, batches = FakePredictor(hold=hold), batcher(**settings)
        with ExitStack() as stack:
            ask(stack, batches, predictor, "first")
            await asyncio.sleep(0.02)
            try:
                await check(stack, batches, predictor, hold)
            finally:
                hold.set()
                batches.close()

    asyncio.run(checked())


def test_a_lone_row_goes_at_once():
    async def check():
        batches, predictor = batcher(max_delay_s=60, workers=2), FakePredictor()
        with ExitStack() as stack:
            (answer,) = ask(stack, batches, predictor, "alone")
            assert (await asyncio.wait_for(answer, 5))["label"] == "alone"

    asyncio.run(check())


def test_rows_that_come_while_the_worker_is_busy_are_computed_together_with_those_of_their_length():
    async def check(stack, batches, predictor, hold):
        texts = ["a" * 10, "b" * 40, "c" * 11, "d" * 41, "e" * 12]
        answers = [ask(stack, batches, predictor, text)[0] for text in texts]
        hold.set()
        assert [answer["label"] for answer in await asyncio.gather(*answers)] == [text[:8] for text in texts]
        assert predictor.batches[1:] == [[texts[0], texts[2], texts[4]], [texts[1], texts[3]]]

    run(check)


def test_no_batch_is_longer_than_its_budget_unless_it_is_one_row():
    async def check(stack, batches, predictor, hold):
        answers = ask(stack, batches, predictor, *["x" * 30] * 7, "y" * 500)
        hold.set()
        await asyncio.gather(*answers)
        assert sorted(len(batch) * max(map(len, batch)) for batch in predictor.batches[1:]) == [30, 90, 90, 500]

    run(check)


def test_an_idle_worker_waits_for_company_while_another_is_busy_and_not_longer_than_told():
    async def check(stack, batches, predictor, hold):
        started = time.monotonic()
        ask(stack, batches, predictor, "second")
        await asyncio.sleep(0.05)
        assert batches.num_waiting == 1
        while batches.num_waiting:
            await asyncio.sleep(0.01)
        assert 0.15 < time.monotonic() - started < 5

    run(check, workers=2, max_delay_s=0.2)


def test_a_row_that_fails_fails_alone():
    async def check(stack, batches, predictor, hold):
        good, bad, other = (ask(stack, batches, predictor, text)[0] for text in ("good", "fail", "other"))
        hold.set()
        answers = await asyncio.gather(good, bad, other, return_exceptions=True)
        assert [answers[0]["label"], answers[2]["label"]] == ["good", "other"]
        assert isinstance(answers[1], RuntimeError)

    run(check)


def test_a_row_that_nobody_waits_for_is_never_computed():
    async def check(stack, batches, predictor, hold):
        with ExitStack() as left:
            ask(left, batches, predictor, *["left"] * 50)
            kept = ask(stack, batches, predictor, "kept")
        assert batches.num_waiting == 1
        hold.set()
        await asyncio.gather(*kept)
        assert predictor.batches == [["first"], ["kept"]]

    run(check)


def test_a_row_that_waited_too_long_is_given_up_while_the_worker_is_still_busy():
    async def check(stack, batches, predictor, hold):
        (answer,) = ask(stack, batches, predictor, "late", deadline_s=time.monotonic() + 0.05)
        with pytest.raises(Refusal, match="too late"):
            await asyncio.wait_for(answer, 5)
        assert not hold.is_set()
        assert batches.num_waiting == 0

    run(check)


def test_rows_that_came_and_went_are_let_go_while_one_with_less_time_still_waits():
    async def check(stack, batches, predictor, hold):
        (waiting,) = ask(stack, batches, predictor, "waiting")
        kept = []
        for _ in range(600):
            rows = predictor.encode([{"text": "gone"}])
            kept.append(weakref.ref(rows[0]))
            with batches.asking(rows, client="other", predictor=predictor, deadline_s=time.monotonic() + 60):
                await asyncio.sleep(0)
            del rows
        gc.collect()
        assert sum(row() is not None for row in kept) < 100
        hold.set()
        assert (await waiting)["label"] == "waiting"

    run(check)


def test_a_batch_never_mixes_predictors():
    async def check(stack, batches, old, hold):
        new = FakePredictor("v2")
        answers = [ask(stack, batches, predictor, "text")[0] for predictor in (old, new) * 5]
        hold.set()
        versions = [answer["model_version"] for answer in await asyncio.gather(*answers)]
        assert versions == ["v1", "v2"] * 5
        assert [len(batch) for batch in new.batches] == [5]

    run(check)


def test_what_was_computed_is_told():
    done = []

    async def check():
        batches, predictor = batcher(done=done), FakePredictor()
        with ExitStack() as stack:
            await asyncio.gather(*ask(stack, batches, predictor, "abc", "abcde"))

    asyncio.run(check())
    assert done == [["abc", "abcde"]]


def test_the_first_row_of_a_client_goes_next_however_many_another_brought_before():
    async def check(stack, batches, predictor, hold):
        greedy = [f for n in range(200) for f in ask(stack, batches, predictor, f"greedy {n:03d}", client="greedy")]
        (polite,) = ask(stack, batches, predictor, "polite", client="polite")
        hold.set()
        await asyncio.gather(polite, *greedy)
        assert "polite" in predictor.batches[1] + predictor.batches[2]
        assert [text for batch in predictor.batches[1:] for text in batch if text != "polite"] == [
            f"greedy {n:03d}" for n in range(200)
        ]

    run(check)


def test_clients_that_both_wait_take_turns_by_tokens_not_by_rows():
    async def check(stack, batches, predictor, hold):
        for _ in range(40):
            ask(stack, batches, predictor, "x" * 40, client="long")
            ask(stack, batches, predictor, "x" * 10, client="short")
        hold.set()
        while len(predictor.batches) < 12:
            await asyncio.sleep(0.01)
        done = [text for batch in predictor.batches[1:12] for text in batch]
        long, short = (sum(len(text) for text in done if len(text) == length) for length in (40, 10))
        assert abs(long - short) <= 100

    run(check, batch_tokens=50)


def test_a_late_row_of_one_client_is_given_up_while_another_has_time():
    async def check(stack, batches, predictor, hold):
        (patient,) = ask(stack, batches, predictor, "patient", client="patient")
        (hasty,) = ask(stack, batches, predictor, "hasty", client="hasty", deadline_s=time.monotonic() + 0.05)
        with pytest.raises(Refusal, match="too late"):
            await asyncio.wait_for(hasty, 5)
        assert batches.num_waiting == 1
        hold.set()
        await patient

    run(check)


def test_a_row_that_came_later_and_has_less_time_is_given_up_while_the_one_before_it_has_time():
    async def check(stack, batches, predictor, hold):
        (patient,) = ask(stack, batches, predictor, "patient")
        (hasty,) = ask(stack, batches, predictor, "hasty", deadline_s=time.monotonic() + 0.05)  # the same client
        with pytest.raises(Refusal, match="too late"):
            await asyncio.wait_for(hasty, 5)
        assert batches.num_waiting == 1
        hold.set()
        await patient
        assert predictor.batches == [["first"], ["patient"]]

    run(check)


def test_what_is_worked_on_one_by_one_after_a_failure_is_given_up_once_it_is_late():
    async def check(stack, batches, predictor, hold):
        deadline_s = time.monotonic() + 1.5
        good, bad, late = ask(stack, batches, predictor, "good1", "fail2", "late3", deadline_s=deadline_s)
        work = predictor.answer_encoded

        def slowly(items):
            if len(items) == 1:
                time.sleep(max(deadline_s - time.monotonic(), 0) + 0.05)
            return work(items)

        predictor.answer_encoded = slowly
        hold.set()
        answers = await asyncio.gather(good, bad, late, return_exceptions=True)
        assert answers[0]["label"] == "good1"
        assert isinstance(answers[2], Refusal)
        assert ["late3"] not in predictor.batches

    run(check)
