"""Items to numbers, histories to arrays. Fitted on the training events; saved as JSON; imports no torch.

Shapes: T items of a history, V items of the catalogue.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from noria.config import HistoryConfig
from noria.data.ragged import pad
from noria.errors import ArtifactError, TrainingError

PAD, START = 0, 1
NUM_SPECIAL = 2
"""Item i of the catalogue is number i + 2 in a history: 0 is padding, 1 stands before the first event."""
_FILE = "encoder.json"


class ItemEncoder:
    """The fitted encoder; see noria.scenarios.base.Encoder for its protocol."""

    def __init__(self, items: Sequence[str], counts: Sequence[int], *, max_events: int, repeats: bool) -> None:
        self.items = tuple(items)
        self.counts = np.asarray(counts, dtype=np.int64)
        self.max_events = max_events
        self.repeats = repeats

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Place of each item in the catalogue."""
        return {item: place for place, item in enumerate(self.items)}

    def known(self, history: Iterable[object]) -> list[int]:
        """Places in the catalogue of the items that it has, in order."""
        numbers = self.numbers
        return [numbers[item] for item in history if isinstance(item, str) and item in numbers]

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """`item_ids` int64 (T): the last `max_events` items that the catalogue has; a start where nothing was cut."""
        history = values.get("history")
        numbers = [place + NUM_SPECIAL for place in self.known(history if isinstance(history, Iterable) else ())]
        return {"item_ids": np.array([START, *numbers][-self.max_events :], dtype=np.int64)}

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """Many rows."""
        return [self.encode(row) for row in rows]

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """What an event teaches: `item`, int64 (1), and where it belongs: `user`, `time`, `tie`, (1) each.

        None for an item that no event to fit has, and for an event without a user or a time.
        """
        found: list[dict[str, np.ndarray] | None] = []
        for row in rows:
            place, time = self.numbers.get(str(row["item"])), row["time"]
            if place is None or row["user"] is None or not isinstance(time, float):
                found.append(None)
                continue
            found.append(
                {
                    "item": np.array([place], np.int64),
                    "user": np.array([_digest(str(row["user"]))], np.int64),
                    "time": np.array([time], np.float64),
                    "tie": np.array([row["id"]], "S24"),
                }
            )
        return found

    def collate(self, encoded: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Pad to (B, T)."""
        return {"item_ids": pad([row["item_ids"] for row in encoded])}

    def num_tokens(self, encoded: Mapping[str, np.ndarray]) -> int:
        """Events, and the start."""
        return len(encoded["item_ids"])

    def save(self, directory: Path) -> None:
        """Write `encoder.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        values = {
            "max_events": self.max_events,
            "repeats": self.repeats,
            "items": self.items,
            "counts": self.counts.tolist(),
        }
        (directory / _FILE).write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")


def fit_item_encoder(rows: Iterable[Mapping[str, object]], config: HistoryConfig) -> ItemEncoder:
    """The catalogue: every item of the training events, by name, with how often it occurs.

    Raises
    ------
    TrainingError
        When there are fewer than two items.
    """
    counts = Counter(str(row["item"]) for row in rows)
    if len(counts) < 2:
        raise TrainingError(
            f"the training events hold {len(counts)} item(s)",
            where="column `item`",
            expected="at least two different items",
            next_step="check `source.columns` in params.yaml: which column is the item",
        )
    items = sorted(counts)
    return ItemEncoder(items, [counts[item] for item in items], max_events=config.max_events, repeats=config.repeats)


def load_item_encoder(directory: Path) -> ItemEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When the file is missing.
    """
    try:
        values: dict[str, Any] = json.loads((directory / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError("there is no item encoder here", where=str(directory), expected=_FILE) from None
    return ItemEncoder(values["items"], values["counts"], max_events=values["max_events"], repeats=values["repeats"])


def _digest(user: str) -> int:
    digest = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
