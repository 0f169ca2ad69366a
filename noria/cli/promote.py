"""`noria promote`: make a published version live by hand, or try it on requests first."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from noria.cli.options import add_directory

if TYPE_CHECKING:
    from noria.serving.pointer import Mode, Production
    from noria.serving.store import ModelStore


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("promote", help="make a published version live, or try it on requests first")
    parser.add_argument(
        "version", nargs="?", metavar="VERSION", help="12 hexadecimal digits, as in the store (default: the canary)"
    )
    parser.add_argument("--reason", required=True, help="why; it goes into the journal")
    parser.add_argument("--force", action="store_true", help="although its last verdict was to keep the champion")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--canary", type=_share_up_to(0.5), metavar="SHARE", help="not live: it answers this share of the requests"
    )
    way.add_argument(
        "--shadow", type=_share_up_to(1.0), metavar="SHARE", help="not live: it answers this share too, unseen"
    )
    add_directory(parser)


def _share_up_to(most: float) -> Callable[[str], float]:
    """As `deploy` in params.yaml has it."""

    def share(text: str) -> float:
        if not 0 < (value := float(text)) <= most:
            raise argparse.ArgumentTypeError(f"{text} is no share above 0 and up to {most:g}")
        return value

    return share


def run(args: argparse.Namespace) -> int:
    """Swap the pointer, once the version has loaded and answered."""
    from noria.cli.model import tell_of_change
    from noria.serving.store import store_of
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    store = store_of(workspace)
    before = store.production()
    version = args.version or _canary_of(store, before)
    details = _forced(store, version, force=args.force)
    _answers(store, version)
    if args.canary is not None:
        _try_out(store, version, "canary", args.canary, reason=args.reason, details=details)
    elif args.shadow is not None:
        _try_out(store, version, "shadow", args.shadow, reason=args.reason, details=details)
    elif (live := store.promote(version, reason=args.reason, over=before, details=details)) == before:
        print(f"{live.version} is already live")
    else:
        print(f"{live.version} is live" + (f", {before.version} was before" if before else ""))
        if before and before.canary and before.canary.version != version:
            print(f"the {before.canary.mode} {before.canary.version} is gone: it was compared with {before.version}")
    tell_of_change(workspace, before, reason=args.reason)
    return 0


def _canary_of(store: ModelStore, live: Production | None) -> str:
    from noria.errors import StoreError

    if live is None or live.canary is None:
        raise StoreError(
            "no version is named, and none is tried as a canary",
            where=store.place(),
            next_step="`noria promote VERSION --reason …`; `noria status` names what is live",
        )
    return live.canary.version


def _forced(store: ModelStore, version: str, *, force: bool) -> Mapping[str, object]:
    """What the journal is to tell of a version whose last verdict is overruled; nothing of others."""
    from noria.errors import StoreError

    verdict = store.journal.last_verdict(version)
    if verdict is None or verdict.kind != "kept":
        return {}
    if not force:
        raise StoreError(
            f"the last verdict on {version} was to keep the champion: {verdict.reason}",
            where=f"{store.place()}: the journal, {verdict.time[:16]}Z",
            expected="a version that was not found worse",
            next_step="`noria promote VERSION --force --reason …` makes it live all the same, and the journal says so",
        )
    return {"forced": True, "verdict": verdict.reason}


def _answers(store: ModelStore, version: str) -> None:
    """Nothing, when it loads and answers here."""
    from noria.serving.bundle import open_bundle
    from noria.serving.predictor import Predictor

    predictor = Predictor(open_bundle(store.fetch(version).path))
    predictor.answer([predictor.bundle.scenario.example])


def _try_out(
    store: ModelStore, version: str, mode: Mode, share: float, *, reason: str, details: Mapping[str, object]
) -> None:
    from noria.cli.model import live_version

    live = live_version(store)
    store.try_out(version, mode=mode, share=share, reason=reason, over=live, details=details)
    print(f"{version} is tried as a {mode} on {share:.1%} of the requests, beside {live.version}")
