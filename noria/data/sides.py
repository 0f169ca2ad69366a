"""Which side of the split a row belongs to: a function of the row alone.

The side is decided by the hash of the row's group: the value of `split.group_by` (of several columns,
the first that has one), or else the id of the original row (its own, or its parent's). Nothing else in
the data has a say, so no row changes sides as data grows, whatever is added and in whatever order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from noria.config import SplitConfig
from noria.errors import ConfigError

_SCALE = 1 << 64


def check_group_by(config: SplitConfig, *, columns: Collection[str]) -> None:
    """Check that rows of `columns` have those that `config` groups by.

    Raises
    ------
    ConfigError
        Naming those that there are.
    """
    if lacking := [name for name in group_columns(config) if name not in columns]:
        raise ConfigError(
            f"there is no column `{lacking[0]}`",
            where="params.yaml: split.group_by",
            expected=", ".join(columns),
            next_step="name one of these, or have the rows keep it: `source.carry`",
        )


def group_columns(config: SplitConfig) -> tuple[str, ...]:
    """The columns that rows are grouped by, in the order in which they are asked."""
    if config.group_by is None:
        return ()
    return (config.group_by,) if isinstance(config.group_by, str) else config.group_by


def group_of(row: Mapping[str, object], config: SplitConfig) -> str:
    """The group of a row with its `id` and `parent_id`; an augmented row is in its parent's group.

    A row without a value to group by (null, or the empty text) is a group of its own.
    """
    for name in group_columns(config):
        if row[name] not in (None, ""):
            return str(row[name])
    return str(row["parent_id"] or row["id"])


def in_validation(group: str, config: SplitConfig) -> bool:
    """Whether a group is on the validation side. A larger share keeps every group that a smaller one held."""
    digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < config.validation_share * _SCALE
