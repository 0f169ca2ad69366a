"""What the commands about models share."""

from __future__ import annotations

from noria.errors import StoreError
from noria.serving.pointer import Production
from noria.serving.store import ModelStore


def live_version(store: ModelStore) -> Production:
    """What is live.

    Raises
    ------
    StoreError
        When nothing is; the published versions are listed.
    """
    live = store.production()
    if live is None:
        known = store.versions()
        raise StoreError(
            f"no version of `{store.name}` is live",
            where=store.place(),
            expected=f"one of the published versions promoted: {', '.join(known)}" if known else "a published version",
            next_step=f"`noria promote {known[0]} --reason …`" if known else "`noria run` makes and promotes one",
        )
    return live
