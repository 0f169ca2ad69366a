"""The model store: versions that never change, and one pointer that says which of them is live.

<name>/versions/<version>/…     a bundle; its manifest is written last
<name>/signatures/<version>     who vouches for it (noria/serving/signature.py)
<name>/checkpoints/<digest>/…   what bundles were made from (noria/serving/checkpoints.py)
<name>/production.json          the pointer, swapped atomically
<name>/journal/<time>-<event>.json
<name>/feedback/<time>-<id>.json   what people say of its answers (noria/serving/feedback.py)
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from noria.artifacts import MANIFEST, Artifact
from noria.errors import BundleError, StoreError
from noria.serving.bundle import read_bundle, version_of
from noria.serving.checkpoints import Checkpoints
from noria.serving.journal import EventKind, Journal
from noria.serving.objects import Objects, open_objects
from noria.workspace import Workspace

logger = logging.getLogger(__name__)

_POINTER = "production.json"
_MOST_PREVIOUS = 50
_VERSION = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Production:
    """What is live.

    Attributes
    ----------
    version, digest:
        The bundle.
    since, reason:
        When it went live (UTC, ISO 8601) and why.
    previous:
        The versions that were live before it, latest first: where a rollback goes. A version that
        was rolled back is not among them.
    """

    version: str
    digest: str
    since: str
    reason: str
    previous: tuple[str, ...] = ()


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
        self.checkpoints = Checkpoints(self._objects, name, place=self.place(), cache=cache)

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
        if new:
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
        return self._pointer()[0]

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
        `reason` and `details` (what the decision rests on) go into the journal.

        Raises
        ------
        StoreError
            When the version is unknown, or the pointer moved.
        """
        if over is not None and over.version == version:
            return over
        previous = (over.version, *over.previous)[:_MOST_PREVIOUS] if over else ()
        return self._swap(version, "promoted", reason=reason, over=over, previous=previous, details=details)

    def rollback(self, *, reason: str) -> Production:
        """Make the version live that was live before; what is live now is not returned to.

        A version that is damaged, or not signed as it must be, is passed over: the one before it goes live.

        Raises
        ------
        StoreError
            When nothing is live, or nothing whole was before.
        """
        live = self.production()
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
            return self._swap(earlier, "rolled-back", reason=reason, over=live, previous=live.previous[place:])
        raise StoreError(
            "no version that was live before is whole",
            where=self.place(),
            expected=f"one of {', '.join(live.previous)}",
            next_step="`noria run` publishes the workspace's bundle again; `noria promote VERSION --reason …`",
        )

    def place(self, version: str | None = None) -> str:
        """URL or path of the model or of one version, for people."""
        return f"{self.url}/{self._key(version) if version else self.name}"

    def _swap(
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
        live, tag = self._pointer()
        new = Production(version, digest, datetime.now(UTC).isoformat(), reason, previous)
        key, data = f"{self.name}/{_POINTER}", json.dumps(asdict(new), indent=2, ensure_ascii=False).encode() + b"\n"
        done = live == over and (self._objects.create(key, data) if tag is None else self._objects.swap(key, data, tag))
        if not done and (found := self.production()) != new:  # equal: a put that won, and was repeated unanswered
            raise StoreError(
                "another promotion came in between; nothing was changed",
                where=self.place(),
                expected=f"{over.version if over else 'nothing'} live, found {found.version if found else 'nothing'}",
                next_step="run it again: it will be judged against what is live now",
            )
        replaced = {"over": over.version if over else None}
        self.journal.record(event, version, reason=reason, details={**replaced, **(details or {})})
        return new

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

    def _pointer(self) -> tuple[Production | None, str | None]:
        stored = self._objects.read(f"{self.name}/{_POINTER}")
        if stored is None:
            return None, None
        try:
            values = json.loads(stored.data)
            return Production(**{**values, "previous": tuple(values["previous"])}), stored.tag
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"the production pointer can't be read: {error}",
                where=f"{self.place()}/{_POINTER}",
                expected="the JSON that `noria promote` writes",
                next_step="restore it from the journal's last promotion, or delete it and `noria promote VERSION`",
            ) from error

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
