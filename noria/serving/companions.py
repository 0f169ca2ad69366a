"""What lies beside the versions of a model in its store: artifacts that it was made from, or is compared with.

<name>/checkpoints/<digest>/…    what a later training can start from, under its whole digest
<name>/baselines/<version>/…     what later arrivals are compared with (noria/monitoring/baseline.py)

Their manifests are written last. A bundle's graph can't be trained any further; its manifest names the checkpoint that
it was made from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from noria.artifacts import MANIFEST, Artifact, read_artifact
from noria.errors import ArtifactError, StoreError
from noria.serving.objects import Objects

DIGEST_FACT = "checkpoint_digest"
"""The fact of a bundle that names its checkpoint."""
_NAME = re.compile(r"[0-9a-f]{12,64}")


@dataclass(frozen=True)
class Sort:
    """What tells one sort of companion from another: its place, and what its errors say."""

    kind: str
    is_named_by_digest: bool
    absent: str
    expected: str
    anew: str
    without: str
    """How to do without one that is damaged, if at all."""

    @property
    def folder(self) -> str:
        """Below the model's name."""
        return f"{self.kind}s"


CHECKPOINTS = Sort(
    kind="checkpoint",
    is_named_by_digest=True,
    absent="the checkpoint is not in the store",
    expected="a version that was deployed with `deploy.publish_checkpoint: true`",
    anew="`train.init_from: none` trains anew; or name the directory of a checkpoint",
    without="; `train.init_from: none` trains without it",
)
BASELINES = Sort(
    kind="baseline",
    is_named_by_digest=False,
    absent="the version has no baseline in the store",
    expected="a version that `noria run` or `noria update` deployed",
    anew="`noria run` in the workspace that made it publishes it",
    without="",
)


class Companions:
    """One model's artifacts of one sort in a store.

    Parameters
    ----------
    place:
        URL or path of the model in the store, for people.
    cache:
        Where those of a remote store are kept on this machine.
    """

    def __init__(self, sort: Sort, objects: Objects, name: str, *, place: str, cache: Path) -> None:
        self._sort = sort
        self._objects = objects
        self._root = f"{name}/{sort.folder}"
        self._place = place
        self._cache = cache

    def publish(self, directory: Path, *, version: str = "") -> Artifact:
        """Copy a verified artifact in, unless a whole one is there; returns what is there, verified.

        `version` is the one that it belongs to, if it is not named by its digest.

        Raises
        ------
        ArtifactError
            When the artifact is damaged.
        StoreError
            When it is of another kind, or the store can't be written.
        """
        artifact = read_artifact(directory)
        if artifact.kind != self._sort.kind:
            raise StoreError(f"a {artifact.kind}, not a {self._sort.kind}", where=str(directory))
        name = artifact.digest if self._sort.is_named_by_digest else version
        assert _NAME.fullmatch(name), name
        if not self._is_whole(name):
            self._objects.put_tree(directory, self._key(name))
        return self.fetch(name)

    def fetch(self, name: str) -> Artifact:
        """A published one on this machine, verified.

        Raises
        ------
        StoreError
            When it was not published, or is damaged.
        """
        sort = self._sort
        if not self.has(name):
            raise StoreError(sort.absent, where=self.place(name), expected=sort.expected, next_step=sort.anew)
        try:
            return self._read(name)
        except ArtifactError as error:
            raise StoreError(
                f"the {sort.kind} can't be trusted: {error.what}",
                where=error.where,
                expected=error.expected,
                next_step=f"move it away; `noria run` in the workspace that made it publishes it anew{sort.without}",
            ) from error

    def has(self, name: str) -> bool:
        """Whether a complete one of this name was published."""
        return bool(_NAME.fullmatch(name)) and self._objects.read(f"{self._key(name)}/{MANIFEST}") is not None

    def names(self) -> list[str]:
        """Digests or versions of the complete ones."""
        return [name for name in self._objects.names(self._root) if self.has(name)]

    def place(self, name: str) -> str:
        """URL or path of one, for people."""
        return f"{self._place}/{self._sort.folder}/{name}"

    def _is_whole(self, name: str) -> bool:
        try:
            return self.has(name) and bool(self._read(name))
        except ArtifactError:
            return False

    def _read(self, name: str) -> Artifact:
        artifact = read_artifact(self._objects.get_tree(self._key(name), self._cache))
        if artifact.kind != self._sort.kind or (self._sort.is_named_by_digest and artifact.digest != name):
            raise ArtifactError(
                f"{artifact.kind} {artifact.digest[:12]} lies in its place",
                where=self.place(name),
                expected=f"{self._sort.kind} {name}",
            )
        return artifact

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}"
