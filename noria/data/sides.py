"""Which side of the split a row belongs to: a function of the row alone.

The side is decided by the hash of the row's group: the value of `split.group_by`, or else the id of
the original row (its own, or its parent's). Nothing else in the data has a say, so no row changes
sides as data grows, whatever is added and in whatever order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from noria.config import SplitConfig

_SCALE = 1 << 64


def group_of(row: Mapping[str, object], config: SplitConfig) -> str:
    """The group of a row with its `id` and `parent_id`; an augmented row is in its parent's group."""
    if config.group_by is not None and row[config.group_by] is not None:
        return str(row[config.group_by])
    return str(row["parent_id"] or row["id"])


def in_validation(group: str, config: SplitConfig) -> bool:
    """Whether a group is on the validation side. A larger share keeps every group that a smaller one held."""
    digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < config.validation_share * _SCALE
