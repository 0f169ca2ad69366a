"""Admission: the wait is bounded by what was measured, memory by what is inside."""

import math

import pytest

from noria.serving.admission import Admission
from noria.serving.refusal import Refusal


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def admission(clock):
    return Admission(max_wait_s=1.0, max_requests=4, max_body_bytes=10, clock=clock)


def answer(admission, clock, *, tokens, seconds):
    """One request, alone, from beginning to end."""
    with admission.enter() as place:
        place.begin()
        place.weigh(tokens)
        clock.now_s += seconds
        admission.answered(tokens)


def test_before_anything_was_measured_requests_come_in(admission):
    with admission.enter() as place:
        place.begin()
        assert admission.wait_s == 0


def test_a_slow_first_answer_is_not_taken_for_the_pace(admission, clock):
    answer(admission, clock, tokens=1, seconds=0.2)
    with admission.enter() as place:
        place.begin()
        place.weigh(1_000)
        with admission.enter():
            assert admission.wait_s == 0


def test_the_pace_is_that_of_the_latest_seconds(admission, clock):
    for tokens in [10] * 20 + [1_000] * 20:
        answer(admission, clock, tokens=tokens, seconds=1.0)
    with admission.enter() as place:
        place.begin()
        place.weigh(500)
        assert admission.wait_s == pytest.approx(0.5, rel=0.05)


def test_a_request_that_would_wait_too_long_is_told_when_to_come_again(admission, clock):
    answer(admission, clock, tokens=100, seconds=1.0)
    with admission.enter() as place:
        place.begin()
        place.weigh(250)
        assert admission.wait_s == pytest.approx(2.5)
        with pytest.raises(Refusal, match=r"the wait would be 2\.5 s") as refused, admission.enter():
            pass
        assert (refused.value.status, refused.value.retry_after_s) == (429, 3)
    assert admission.wait_s == 0


def test_a_request_counts_as_an_average_one_until_it_is_weighed(admission, clock):
    answer(admission, clock, tokens=90, seconds=0.5)
    with admission.enter() as place:
        place.begin()
        assert admission.wait_s == pytest.approx(0.5)
        place.weigh(9)
        assert admission.wait_s == pytest.approx(0.05)


def test_time_without_work_does_not_slow_the_pace(admission, clock):
    answer(admission, clock, tokens=100, seconds=0.5)
    clock.now_s += 1_000
    with admission.enter():
        clock.now_s += 1_000  # a body that comes slowly is no work
    answer(admission, clock, tokens=100, seconds=0.5)
    with admission.enter() as place:
        place.begin()
        assert admission.wait_s == pytest.approx(0.5, rel=0.01)


def test_those_who_came_in_together_are_judged_again_when_their_bodies_are_read(admission, clock):
    answer(admission, clock, tokens=80, seconds=1.0)
    with admission.enter() as first, admission.enter() as second, admission.enter() as third:
        first.begin()
        second.begin()
        with pytest.raises(Refusal, match="too much to do"):
            third.begin()


def test_no_more_requests_are_inside_than_the_most(admission):
    with admission.enter(), admission.enter(), admission.enter(), admission.enter():
        with pytest.raises(Refusal, match="4 requests are inside"), admission.enter():
            pass
        assert admission.num_requests == 4
    with admission.enter():
        assert admission.num_requests == 1


def test_all_bodies_together_are_bounded(admission):
    with admission.enter() as place:
        place.hold(600)
        with admission.enter() as other, pytest.raises(Refusal, match="bodies of all requests"):
            other.hold(100)
        place.hold(40)


def test_as_many_as_are_worked_on_at_once_come_in_however_slow_it_is(clock):
    admission = Admission(max_wait_s=0.1, max_requests=4, max_body_bytes=10, num_at_once=2, clock=clock)
    answer(admission, clock, tokens=10, seconds=1.0)
    with admission.enter() as first, admission.enter() as second:
        first.begin()
        second.begin()
        assert admission.wait_s == pytest.approx(2.0)
        assert admission.refusal().status == 429


def test_a_place_is_given_up_whatever_happens(admission, clock):
    for _ in range(10):
        with pytest.raises(ValueError, match="broken"), admission.enter() as place:
            place.hold(600)
            place.begin()
            place.weigh(50)
            raise ValueError("broken")
    assert admission.num_requests == 0
    assert admission.wait_s == 0
    answer(admission, clock, tokens=10, seconds=0.1)


def test_while_it_stops_nobody_comes_in_and_who_is_inside_is_answered(admission, clock):
    with admission.enter() as place:
        place.begin()
        admission.is_stopping = True
        with pytest.raises(Refusal, match="stopping") as refused, admission.enter():
            pass
        place.weigh(5)
        admission.answered(5)
    assert (refused.value.status, refused.value.reason) == (503, "stopping")
    assert refused.value.retry_after_s >= 1
    assert place.deadline_s < math.inf
