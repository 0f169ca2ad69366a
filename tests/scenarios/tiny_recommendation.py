"""Users who walk round a ring of items, and what the gate refuses among their events."""

import csv
import random
from collections.abc import Mapping
from pathlib import Path

import workspaces

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "model": {"layers": 1, "dim": 16, "heads": 2, "feed_forward_dim": 32, "dropout": 0.0},
    "train": {"epochs": 12, "threads": 1, "lr": 0.01, "holdout_share": 0.2, "batch_tokens": 256},
    "evaluate": workspaces.TINY["evaluate"],
    "optimize": workspaces.TINY["optimize"],
}
HEADER = ("user_id", "item_id", "timestamp")
_START_S, _NUM_ITEMS = 1_600_000_000, 40
Event = tuple[str, str, str]


def good_events(num_users: int = 80) -> list[Event]:
    """Every user goes on to the next item of a ring, from a place of their own."""
    draw = random.Random(0)
    events = []
    for user in range(num_users):
        first, length = draw.randrange(_NUM_ITEMS), draw.randint(4, 16)
        for step in range(length):
            events.append((f"u{user}", f"item {(first + step) % _NUM_ITEMS}", str(_START_S + 1_000 * user + step)))
    draw.shuffle(events)
    return events


def faults() -> list[Event]:
    """Copies, times that can't be, ids that are none; and what is right though it looks odd."""
    return [
        *good_events()[:40],
        ("u1", "item 3", ""),
        ("u1", "item 3", "0"),
        ("u1", "item 3", "9e99"),
        ("u1", "item 3", "yesterday"),
        ("u1", "", str(_START_S)),
        ("  ", "item 3", str(_START_S)),
        ("u2", " item 4\x07", f"{_START_S + 999_999}000"),
        ("once", "item 5", str(_START_S)),
        ("🎬 fan", "👨‍👩‍👧 film", "2020-10-01T12:00:00Z"),
        ("🎬 fan", "item 6", "2020-10-02"),
    ]


def write_source(path: Path, *, dirty: bool) -> Path:
    """A source below `path`; a dirty one fails the gate, and passes it once it is cleaned."""
    source = path / "events.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *good_events(), *(faults() if dirty else [])])
    return source
