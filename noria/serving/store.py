"""The model store: versions that never change, and one pointer that says which of them is live, or is tried.

<name>/versions/<version>/…     a bundle; its manifest is written last
<name>/signatures/<version>     who vouches for it (noria/serving/signature.py)
<name>/checkpoints/<digest>/…   what bundles were made from (noria/serving/companions.py)
<name>/baselines/<version>/…    what arrivals are compared with
<name>/production.json          the pointer, swapped atomically (noria/serving/pointer.py)
<name>/journal/<time>-<event>.json
<name>/feedback/<time>-<id>.json   what people say of its answers (noria/serving/feedback.py)
<name>/intakes/<number>.json       what became of it (noria/serving/intakes.py)
<name>/lease.json               the one run that may change the model (noria/serving/lease.py)
<name>/observations/<trial>/<server>.json   how a canary did beside its champion (noria/serving/observations.py)
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from noria.artifacts import MANIFEST, Artifact
from noria.errors import BundleError, StoreError
from noria.serving.bundle import read_bundle, version_of
from noria.serving.companions import BASELINES, CHECKPOINTS, Companions
from noria.serving.intakes import Intakes
from noria.serving.journal import EventKind, Journal
from noria.serving.objects import Objects, open_objects
from noria.serving.observations import Observed, read_observations
from noria.serving.pointer import Canary, Mode, Pointer, Production
from noria.workspace import Workspace

logger = logging.getLogger(__name__)

_MOST_PREVIOUS = 50
_VERSION = re.compile(r"[0-9a-f]{12}")


class ModelStore:
    """One model's versions.

    Parameters
    ----------
    url:
        A directory or an `s3://bucket/prefix` URL.
    name:
        The model's name.
    cache:
        Where bundles and checkpoints of a remote store are kept on this machine.
    public_key:
        Where given, no version is fetched, goes live or is returned to that its owner did not sign.
    """

    def __init__(self, url: str, *, name: str, cache: Path, public_key: Path | None = None) -> None:
        self.url = url
        self.name = name
        self.cache = cache
        self._public_key = public_key
        self._objects: Objects = open_objects(url)
        self.journal = Journal(self._objects, name)
        self.checkpoints = Companions(CHECKPOINTS, self._objects, name, place=self.place(), cache=cache)
        self.baselines = Companions(BASELINES, self._objects, name, place=self.place(), cache=cache)
        self.intakes = Intakes(self._objects, name, place=self.place(), cache=cache)
        self._pointer = Pointer(self._objects, name, journal=self.journal, place=self.place())

    def publish(self, bundle: Path) -> Artifact:
        """Copy a verified bundle in, unless it is there and whole; returns the copy, read back and verified.

        Raises
        ------
        BundleError
            When the bundle is damaged.
        StoreError
            When the store can't be written, or another bundle has the same version.
        """
        artifact = read_bundle(bundle)
        version = version_of(artifact)
        key = self._key(version)
        new = self._objects.read(f"{key}/{MANIFEST}") is None
        published = None if new else self._whole(version)
        if published is None:
            self._objects.put_tree(bundle, key)
            published = self._read(version)
        if published.digest != artifact.digest:
            raise StoreError(
                f"version {version} is another bundle", where=self.place(version), expected=f"digest {artifact.digest}"
            )
        if new or not self.journal.has("published", version):  # whoever published it died before he told
            self.journal.record("published", version)
        return published

    def fetch(self, version: str, *, signed: bool = True) -> Artifact:
        """A published version on this machine, verified; `signed` as the store's key asks for it, if it has one.

        Raises
        ------
        StoreError
            When there is no such version; the known ones are listed.
        BundleError
            When it is damaged or not signed as it must be, or another version lies in its place.
        """
        self._refuse_unknown(version)
        published = self._read(version)
        if signed and self._public_key is not None:
            self._check_signature(published, version, self._public_key)
        return published

    def sign(self, version: str, private_key: Path, *, made: Path | None = None) -> None:
        """Vouch for a version, which is verified first; doing it again changes nothing.

        With `made`, the bundle that was published, only that is vouched for: what was in the store before it may
        have other facts beside the same files, and must then be signed by this key already.

        Raises
        ------
        BundleError
            When the version is damaged, or is not what was `made`.
        ConfigError
            When there is no such key.
        StoreError
            When there is no such version.
        """
        from noria.serving.signature import Signed, check, read_private_key

        key = read_private_key(private_key)
        self._refuse_unknown(version)
        manifest = (self._read(version).path / MANIFEST).read_bytes()
        signed, path = Signed(self.name, manifest), self._signature(version)
        if made is not None and manifest != (made / MANIFEST).read_bytes():
            found = self._objects.read(path)
            check(signed, found.data if found else None, key.public_key(), where=self.place(version), version=version)
            return
        signature = key.sign(signed.message)
        while (found := self._objects.read(path)) is None or found.data != signature:
            if found is None:
                self._objects.create(path, signature)
            else:
                self._objects.swap(path, signature, found.tag)

    def check_signature(self, version: str, public_key: Path) -> None:
        """Nothing, when the key's owner signed this version, which is verified first.

        Raises
        ------
        BundleError
            When he did not, or the version is damaged.
        StoreError
            When there is no such version.
        """
        self._check_signature(self.fetch(version, signed=False), version, public_key)

    def _check_signature(self, published: Artifact, version: str, public_key: Path) -> None:
        from noria.serving.signature import Signed, check, read_public_key  # loaded where signatures are used

        signature = self._objects.read(self._signature(version))
        check(
            Signed(self.name, (published.path / MANIFEST).read_bytes()),
            signature.data if signature else None,
            read_public_key(public_key),
            where=self.place(version),
            version=version,
        )

    def versions(self) -> list[str]:
        """Complete versions, by name."""
        names = self._objects.names(f"{self.name}/versions")
        return [name for name in names if self._objects.read(f"{self._key(name)}/{MANIFEST}")]

    def production(self) -> Production | None:
        """What is live, or None before the first promotion.

        Raises
        ------
        StoreError
            When the pointer can't be read.
        """
        return self._pointer.read()

    def settled(self) -> Production | None:
        """What is live, and its last change is in the journal, also if whoever made it died before he told."""
        live = self._pointer.read()
        if live is not None:
            self._pointer.settle(live)
        return live

    def promote(
        self,
        version: str,
        *,
        reason: str,
        over: Production | None,
        details: Mapping[str, object] | None = None,
    ) -> Production:
        """Make `version` live in place of `over`, in one swap.

        `over` is what the decision was made against: had another promotion come in between, this one
        is refused instead of undoing it. A version that is live already stays so, without an event.
        `reason` and `details` (what the decision rests on) go into the journal. A canary is gone then:
        it went live, or was compared with what is not live any more.

        Raises
        ------
        StoreError
            When the version is unknown, or the pointer moved.
        """
        live = self.settled()
        if live is not None and live.version == version:
            return live
        previous = (over.version, *over.previous)[:_MOST_PREVIOUS] if over else ()
        return self._make_live(version, "promoted", reason=reason, over=over, previous=previous, details=details)

    def try_out(
        self,
        version: str,
        *,
        mode: Mode,
        share: float,
        reason: str,
        over: Production,
        details: Mapping[str, object] | None = None,
    ) -> Production:
        """Put `version` beside what is live, in one swap, in place of the canary that is there.

        `over`, `reason` and `details` are those of `promote`. What stands there in this way already stays so.

        Raises
        ------
        StoreError
            When the version is unknown or live itself, or the pointer moved.
        """
        digest, live = self.fetch(version).digest, self.settled()
        if live and live.canary and live.canary.is_as(version, mode, share):
            return live
        if over.version == version:
            raise StoreError(
                f"{version} is live: it can't be tried beside itself",
                where=self.place(),
                expected="another version",
                next_step=self._listing(),
            )
        now, before = datetime.now(UTC).isoformat(), over.canary
        canary = Canary(version, digest, mode, share, now, reason, before.waiting_since if before else now)
        beside = {"over": over.version, "mode": mode, "share": share, "replaced": before.version if before else None}
        new, told = replace(over, canary=canary), {**beside, **(details or {})}
        return self._pointer.change(new, "canary", version, reason=reason, over=over, details=told)

    def withdraw(self, *, reason: str, over: Production, details: Mapping[str, object] | None = None) -> Production:
        """Take the canary away; without one, nothing changes. `over`, `reason` and `details` are those of `promote`.

        Raises
        ------
        StoreError
            When the pointer moved.
        """
        live = self.settled()
        if over.canary is None or (live and live.version == over.version and live.canary is None):
            return live or over
        alone, told = replace(over, canary=None), {"over": over.version, **(details or {})}
        return self._pointer.change(alone, "withdrawn", over.canary.version, reason=reason, over=over, details=told)

    def rollback(self, *, reason: str, of: str | None = None) -> Production:
        """Make the version live that was live before; what is live now is not returned to, and no canary is left.

        A version that is damaged, or not signed as it must be, is passed over: the one before it goes live.
        `of` is the version to go back from: once another is live, nothing changes. A rollback that died before it
        told the journal is told, and not done again.

        Raises
        ------
        StoreError
            When nothing is live, or nothing whole was before.
        """
        live = self.production()
        is_told_late = live is not None and self._pointer.settle(live)
        if live is not None and (
            (is_told_late and live.event is not None and live.event.kind == "rolled-back")
            or of not in (None, live.version)
        ):
            return live
        if live is None or not live.previous:
            state = "nothing is live" if live is None else f"{live.version} is the first version that went live"
            raise StoreError(
                f"there is nothing to roll back to: {state}",
                where=self.place(),
                next_step=f"`noria promote VERSION --reason …`; {self._listing()}",
            )
        for place, earlier in enumerate(live.previous, 1):
            try:
                self.fetch(earlier)
            except (BundleError, StoreError) as error:
                logger.warning("%s can't go live: %s; going back one further", self.place(earlier), error.what)
                continue
            return self._make_live(earlier, "rolled-back", reason=reason, over=live, previous=live.previous[place:])
        raise StoreError(
            "no version that was live before is whole",
            where=self.place(),
            expected=f"one of {', '.join(live.previous)}",
            next_step="`noria run` publishes the workspace's bundle again; `noria promote VERSION --reason …`",
        )

    def observed(self, canary: Canary) -> Observed:
        """What the servers counted of a canary and of the champion meanwhile.

        Raises
        ------
        StoreError
            When an object of theirs can't be read.
        """
        return read_observations(self._objects, self.name, canary)

    def tried_last(self) -> str | None:
        """The version with a baseline that was staged last: its rows are no news, whatever became of it."""
        staged = (event.version for event in reversed(self.journal.events()) if event.kind == "staged")
        return next((version for version in staged if self.baselines.has(version)), None)

    def place(self, version: str | None = None) -> str:
        """URL or path of the model or of one version, for people."""
        return f"{self.url}/{self._key(version) if version else self.name}"

    def _make_live(
        self,
        version: str,
        event: EventKind,
        *,
        reason: str,
        over: Production | None,
        previous: tuple[str, ...],
        details: Mapping[str, object] | None = None,
    ) -> Production:
        digest = self.fetch(version).digest  # a damaged version never goes live
        new = Production(version, digest, datetime.now(UTC).isoformat(), reason, previous)
        told = {"over": over.version if over else None, **(details or {})}
        if over and over.canary:
            told["canary"] = over.canary.version
        return self._pointer.change(new, event, version, reason=reason, over=over, details=told)

    def _read(self, version: str) -> Artifact:
        artifact = read_bundle(self._objects.get_tree(self._key(version), self.cache))
        if version_of(artifact) != version:
            raise BundleError(
                f"version {version_of(artifact)} lies in the place of {version}",
                where=self.place(version),
                next_step="move it away; `noria run` publishes the workspace's bundle again",
            )
        return artifact

    def _whole(self, version: str) -> Artifact | None:
        """A version, or None when it is damaged or not there."""
        try:
            return self._read(version)
        except BundleError as error:
            logger.warning("%s", error)
            return None

    def _refuse_unknown(self, version: str) -> None:
        if _VERSION.fullmatch(version) and self._objects.read(f"{self._key(version)}/{MANIFEST}") is not None:
            return
        known = self.versions()
        near = difflib.get_close_matches(version, known, n=1)
        raise StoreError(
            f"there is no version {version}",
            where=self.place(),
            expected=self._listing(),
            next_step=f"did you mean {near[0]}?"
            if near
            else "`noria run` publishes one"
            if not known
            else "name one of these",
        )

    def _listing(self) -> str:
        known = self.versions()
        return f"one of {', '.join(known)}" if known else "no version is published yet"

    def _key(self, version: str) -> str:
        return f"{self.name}/versions/{version}"

    def _signature(self, version: str) -> str:
        return f"{self.name}/signatures/{version}"


def store_of(workspace: Workspace) -> ModelStore:
    """The model store that a workspace names."""
    key = workspace.config.deploy.public_key
    return ModelStore(
        workspace.store,
        name=workspace.config.name,
        cache=workspace.store_cache,
        public_key=workspace.root / key if key else None,
    )
