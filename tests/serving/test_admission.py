"""Admission: the wait is bounded by what was measured, memory by what is inside."""

import math
from contextlib import ExitStack

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


def entered(stack, admission, client, *, tokens=None):
    """A place of this client."""
    place = stack.enter_context(admission.enter(client))
    if tokens is not None:
        place.begin()
        place.weigh(tokens)
    return place


def test_a_client_waits_for_its_own_tokens_and_for_as_many_of_each_other(admission, clock):
    answer(admission, clock, tokens=100, seconds=1.0)
    with ExitStack() as inside:
        entered(inside, admission, "greedy", tokens=90)
        entered(inside, admission, "polite", tokens=10)
        assert admission.wait_s == pytest.approx(1.0)
        assert admission.wait_s_of("greedy") == pytest.approx(1.0)
        assert admission.wait_s_of("polite") == pytest.approx(0.2)
        assert admission.wait_s_of("new") == 0


def test_a_client_whose_work_fills_the_time_is_refused_and_another_is_not(admission, clock):
    answer(admission, clock, tokens=100, seconds=1.0)
    with ExitStack() as inside:
        entered(inside, admission, "greedy", tokens=250)
        with pytest.raises(Refusal, match=r"the wait would be 2\.5 s"), admission.enter("greedy"):
            pass
        entered(inside, admission, "polite", tokens=20)
        assert admission.refusal("polite") is None
        assert admission.refusal("polite", is_inside=True) is None


@pytest.mark.parametrize(("num_clients", "each"), [(1, 32), (2, 22), (3, 16), (8, 8)])
def test_alone_a_client_holds_half_of_the_room_and_beside_others_less_so_that_one_more_finds_some(num_clients, each):
    admission = Admission(max_wait_s=1.0, max_requests=64, max_body_bytes=10, max_client_share=0.5)
    with ExitStack() as inside:
        held = dict.fromkeys(range(num_clients), 0)
        for client in list(held) * 64:
            if admission.refusal(str(client)) is None:
                entered(inside, admission, str(client))
                held[client] += 1
        assert all(abs(number - each) <= 1 for number in held.values())
        entered(inside, admission, "new")


def test_the_bodies_of_one_client_leave_room_for_those_of_another(clock):
    admission = Admission(max_wait_s=1.0, max_requests=64, max_body_bytes=10, max_client_share=0.5, clock=clock)
    with ExitStack() as inside:
        greedy, _ = (entered(inside, admission, "greedy") for _ in range(2))
        greedy.hold(320)
        with pytest.raises(Refusal, match="bodies of this client"):
            greedy.hold(1)
        entered(inside, admission, "polite").hold(10)


def test_a_client_that_left_is_forgotten(admission):
    for number in range(1_000):
        with admission.enter(f"client {number}") as place:
            place.begin()
    assert not admission._by_client
