"""What the commands about models share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noria.errors import StoreError
from noria.serving.pointer import Production
from noria.serving.store import ModelStore

if TYPE_CHECKING:
    from noria.workspace import Workspace


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


def tell_of_change(workspace: Workspace, before: Production | None, *, reason: str) -> None:
    """Tell people what somebody changed by hand, as runs tell of what they change."""
    from noria.notify import notify
    from noria.serving.store import store_of

    after = store_of(workspace).production()
    if after is None or after == before:
        return
    if before is None or after.version != before.version:
        what = f"{after.version} is live" + (f" in place of {before.version}" if before else "")
    elif after.canary is not None:
        what = f"{after.canary.version} is tried as a {after.canary.mode} beside {after.version}"
    else:
        what = f"what was tried beside {after.version} is withdrawn"
    notify("promotion", title=what, text=f"By hand: {reason}\nWorkspace: {workspace.root}", workspace=workspace)
