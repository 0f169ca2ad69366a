"""Training checkpoints beside the versions of a model: what a later training can start from.

<name>/checkpoints/<digest>/…     a checkpoint, under its whole digest; its manifest is written last

A bundle's graph can't be trained any further. Its manifest names the checkpoint that it was made from.
"""

from __future__ import annotations

import re
from pathlib import Path

from noria.artifacts import MANIFEST, Artifact, read_artifact
from noria.errors import ArtifactError, StoreError
from noria.serving.objects import Objects

KIND = "checkpoint"
DIGEST_FACT = "checkpoint_digest"
"""The fact of a bundle that names its checkpoint."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Checkpoints:
    """One model's checkpoints in a store.

    Parameters
    ----------
    place:
        URL or path of the model in the store, for people.
    cache:
        Where checkpoints of a remote store are kept on this machine.
    """

    def __init__(self, objects: Objects, name: str, *, place: str, cache: Path) -> None:
        self._objects = objects
        self._name = name
        self._place = place
        self._cache = cache

    def publish(self, checkpoint: Path) -> Artifact:
        """Copy a verified checkpoint in, unless it is there and whole; returns the copy, read back and verified.

        Raises
        ------
        ArtifactError
            When the checkpoint is damaged.
        StoreError
            When it is no checkpoint, or the store can't be written.
        """
        artifact = read_artifact(checkpoint)
        if artifact.kind != KIND:
            raise StoreError(f"a {artifact.kind}, not a checkpoint", where=str(checkpoint))
        if not self._is_whole(artifact.digest):
            self._objects.put_tree(checkpoint, self._key(artifact.digest))
        return self.fetch(artifact.digest)

    def fetch(self, digest: str) -> Artifact:
        """A published checkpoint on this machine, verified.

        Raises
        ------
        StoreError
            When it was not published, or is damaged.
        """
        if not self._is_there(digest):
            raise StoreError(
                "the checkpoint is not in the store",
                where=self.place(digest),
                expected="a version that was deployed with `deploy.publish_checkpoint: true`",
                next_step="`train.init_from: none` trains anew; or name the directory of a checkpoint",
            )
        try:
            return self._read(digest)
        except ArtifactError as error:
            raise StoreError(
                f"the checkpoint can't be trusted: {error.what}",
                where=error.where,
                expected=error.expected,
                next_step="move it away; `noria run` in the workspace that made it publishes it anew; "
                "`train.init_from: none` trains without it",
            ) from error

    def digests(self) -> list[str]:
        """Complete checkpoints, by name."""
        return [name for name in self._objects.names(f"{self._name}/checkpoints") if self._is_there(name)]

    def place(self, digest: str) -> str:
        """URL or path of one checkpoint, for people."""
        return f"{self._place}/checkpoints/{digest}"

    def _is_there(self, digest: str) -> bool:
        return bool(_DIGEST.fullmatch(digest)) and self._objects.read(f"{self._key(digest)}/{MANIFEST}") is not None

    def _is_whole(self, digest: str) -> bool:
        try:
            return self._is_there(digest) and self._read(digest).digest == digest
        except ArtifactError:
            return False

    def _read(self, digest: str) -> Artifact:
        artifact = read_artifact(self._objects.get_tree(self._key(digest), self._cache))
        if artifact.digest != digest:
            raise ArtifactError(
                f"checkpoint {artifact.digest[:12]} lies in its place",
                where=self.place(digest),
                expected=f"digest {digest}",
            )
        return artifact

    def _key(self, digest: str) -> str:
        return f"{self._name}/checkpoints/{digest}"
