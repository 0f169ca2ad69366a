"""Fair queueing: by what each client is charged, not by what it brings."""

from dataclasses import dataclass
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from noria.serving import fair_queue
from noria.serving.fair_queue import FairQueue


@dataclass(frozen=True, eq=False)
class Item:
    client: str
    cost: float = 1.0


def queue(*items):
    made = FairQueue(cost_of=lambda item: item.cost)
    made.put(items)
    return made


def served(waiting, number):
    """One by one."""
    taken = []
    for _ in range(number):
        first = next(waiting.in_turn())
        waiting.take([first])
        taken.append(first)
    return taken


def test_of_one_client_the_first_to_come_goes_first():
    items = [Item("a", cost) for cost in (5, 1, 3)]
    assert list(queue(*items).in_turn()) == items == served(queue(*items), 3)


def test_who_comes_late_goes_next_and_has_no_claim_to_what_it_did_not_use():
    waiting = queue(*(Item("greedy") for _ in range(100)))
    served(waiting, 50)
    waiting.put(Item("polite") for _ in range(50))
    clients = [item.client for item in served(waiting, 20)]
    assert clients.count("polite") == 10
    assert "polite" in clients[:2]


def test_a_client_that_comes_again_and_again_gets_no_more_than_its_share():
    waiting = queue(*(Item("steady") for _ in range(1_000)))
    costs = dict.fromkeys(("steady", "again"), 0.0)
    for _ in range(300):
        if not any(item.client == "again" for item in waiting.in_turn()):
            waiting.put([Item("again", 20.0)])
        (item,) = served(waiting, 1)
        costs[item.client] += item.cost
    assert costs["again"] <= costs["steady"] + 20


def test_what_is_discarded_costs_nothing_and_twice_is_once():
    first, second, third = items = Item("a"), Item("a"), Item("b")
    waiting = queue(*items)
    for _ in range(2):
        waiting.discard(first)
    assert len(waiting) == 2
    assert set(waiting.in_turn()) == {second, third}
    waiting.take([second, third])
    assert not waiting
    assert list(waiting.in_turn()) == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 10)), min_size=1, max_size=60),
    st.lists(st.integers(0, 3), max_size=60),
)
def test_while_two_clients_wait_neither_is_ahead_by_more_than_an_item_of_each(brought, takes):
    waiting = queue(*(Item(client, cost) for client, cost in brought))
    charged = dict.fromkeys("abc", 0.0)
    for number in takes:
        present = {item.client for item in waiting.in_turn()}
        batch = list(islice(waiting.in_turn(), number))
        assert len(set(map(id, batch))) == len(batch) == min(number, len(waiting))
        waiting.take(batch)
        for item in batch:
            charged[item.client] += item.cost
        still = [client for client in present if any(item.client == client for item in waiting.in_turn())]
        assert all(abs(charged[one] - charged[other]) <= 10 + 1e-6 for one in still for other in still)


def test_few_clients_are_remembered_and_none_when_nobody_waits():
    waiting = queue(*(Item("steady") for _ in range(10)))
    for number in range(3 * fair_queue._MOST_REMEMBERED):
        waiting.put([one := Item(f"client {number}")])
        waiting.take([one])
    assert len(waiting._charged) <= fair_queue._MOST_REMEMBERED + 2
    served(waiting, 10)
    assert not waiting._charged
