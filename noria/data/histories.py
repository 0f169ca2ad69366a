"""Events in the order of each user's history, and the last of each held out: leave one out, by time.

Order: by time; events of the same moment by the row's id, a digest of its content. So the order
depends on the events alone, not on how a file was written, and favours no item.

Shapes: R events, U users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from noria.config import SplitConfig
from noria.data.sides import in_validation
from noria.scenarios.base import HeldOut

HISTORY = pa.field("history", pa.list_(pa.string()))
"""What a row that judges carries: the items of its user's events before it, oldest first."""


@dataclass(frozen=True)
class Histories:
    """User i's events, oldest first, are rows `order[offsets[i]:offsets[i + 1]]`."""

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each user, int64 (U,)."""
        return np.diff(self.offsets)


def in_order(user: NDArray[np.generic], time: NDArray[np.float64], tie: NDArray[np.generic]) -> Histories:
    """Group events by `user` (R,), each user's by `time` (R,), those of one moment by `tie` (R,)."""
    order = np.lexsort((tie, time, user))
    users = user[order]
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]])) if len(users) else np.empty(0, np.int64)
    return Histories(order, np.append(starts, len(users)).astype(np.int64))


def hold_out_last(rows: pa.Table, config: SplitConfig) -> HeldOut:
    """Each user's last event judges, with the history before it; of users with one event, none does.

    `split.validation_share` is the share of the users that judge, by hash. An event that lacks its
    user, item or time is in no history and never judges.
    """
    columns = [rows.column(name) for name in ("user", "item", "time")]
    whole = pc.and_(pc.and_(columns[0].is_valid(), columns[1].is_valid()), columns[2].is_valid())
    place = np.flatnonzero(whole.to_numpy())  # of the whole events among all
    events = rows.filter(whole)
    users = events.column("user").combine_chunks().dictionary_encode()
    histories = in_order(
        users.indices.to_numpy(), events.column("time").to_numpy(), np.array(events.column("id").to_pylist(), bytes)
    )
    lasts = histories.offsets[1:] - 1
    names = [users.dictionary[users.indices[int(row)].as_py()].as_py() for row in histories.order[lasts]]
    chosen = np.array([in_validation(name, config) for name in names], bool) & (histories.lengths > 1)
    judging = histories.order[lasts[chosen]]
    by_row = np.argsort(judging)  # context is in the order of the rows
    starts, stops = histories.offsets[:-1][chosen][by_row], lasts[chosen][by_row]
    before = np.concatenate([np.empty(0, np.int64), *map(np.arange, starts, stops)])
    lists = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(stops - starts)]), pa.int32()),
        events.column("item").take(pa.array(histories.order[before])).combine_chunks(),
    )
    judges = np.zeros(rows.num_rows, bool)
    judges[place[judging]] = True
    return HeldOut(
        judges=judges,
        context=pa.table([lists], schema=pa.schema([HISTORY])),
        counts={
            "users": len(lasts),
            "users that judge": int(chosen.sum()),
            "users of one event": int((histories.lengths == 1).sum()),
        },
    )
