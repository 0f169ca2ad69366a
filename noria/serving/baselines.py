"""What a version was made of and could do, beside it in the store: what later arrivals are compared with.

<name>/baselines/<version>/…     an artifact (noria/monitoring/baseline.py); its manifest is written last
"""

from __future__ import annotations

from pathlib import Path

from noria.artifacts import MANIFEST, Artifact, read_artifact
from noria.errors import ArtifactError, StoreError
from noria.serving.objects import Objects

KIND = "baseline"


class Baselines:
    """One model's baselines in a store, one a version.

    Parameters
    ----------
    place:
        URL or path of the model in the store, for people.
    cache:
        Where baselines of a remote store are kept on this machine.
    """

    def __init__(self, objects: Objects, name: str, *, place: str, cache: Path) -> None:
        self._objects = objects
        self._name = name
        self._place = place
        self._cache = cache

    def publish(self, version: str, directory: Path) -> Artifact:
        """Copy a verified baseline in, unless the version has a whole one; returns what is there, verified.

        Raises
        ------
        ArtifactError
            When the baseline is damaged.
        StoreError
            When it is no baseline, or the store can't be written.
        """
        artifact = read_artifact(directory)
        if artifact.kind != KIND:
            raise StoreError(f"a {artifact.kind}, not a baseline", where=str(directory))
        if not self._is_whole(version):
            self._objects.put_tree(directory, self._key(version))
        return self.fetch(version)

    def fetch(self, version: str) -> Artifact:
        """A version's baseline on this machine, verified.

        Raises
        ------
        StoreError
            When it was not published, or is damaged.
        """
        if not self.has(version):
            raise StoreError(
                f"version {version} has no baseline in the store",
                where=self.place(version),
                expected="a version that `noria run` or `noria update` deployed",
                next_step="`noria run` in the workspace that made it publishes it",
            )
        try:
            return self._read(version)
        except ArtifactError as error:
            raise StoreError(
                f"the baseline can't be trusted: {error.what}",
                where=error.where,
                expected=error.expected,
                next_step="move it away; `noria run` in the workspace that made it publishes it anew",
            ) from error

    def has(self, version: str) -> bool:
        """Whether a complete baseline of this version was published."""
        return self._objects.read(f"{self._key(version)}/{MANIFEST}") is not None

    def place(self, version: str) -> str:
        """URL or path of one baseline, for people."""
        return f"{self._place}/baselines/{version}"

    def _is_whole(self, version: str) -> bool:
        try:
            return self.has(version) and self._read(version).kind == KIND
        except ArtifactError:
            return False

    def _read(self, version: str) -> Artifact:
        return read_artifact(self._objects.get_tree(self._key(version), self._cache))

    def _key(self, version: str) -> str:
        return f"{self._name}/baselines/{version}"
