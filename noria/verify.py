"""Recomputing every digest: artifacts in the workspace, DVC's cache, versions in the model store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from noria.artifacts import MANIFEST, read_artifact
from noria.errors import ArtifactError
from noria.workspace import Workspace

_DIRECTORY_LISTING = ".dir"
_OUTPUT_FOLDERS = ("data", "models", "reports")


def verify_artifacts(workspace: Workspace) -> Iterator[Path]:
    """Every artifact of the workspace, once its files were found to be what its manifest says.

    Raises
    ------
    ArtifactError
        At the first difference.
    """
    for folder in _OUTPUT_FOLDERS:
        for manifest in sorted((workspace.root / folder).rglob(MANIFEST)):
            yield read_artifact(manifest.parent).path


def verify_cache(workspace: Workspace) -> Iterator[Path]:
    """Every file of DVC's cache, once its bytes were found to have the MD5 that it is named after.

    `dvc status` trusts what it noted when it wrote the file (treeverse/dvc#9641), so it can't tell.

    Raises
    ------
    ArtifactError
        At the first difference.
    """
    for path in sorted((workspace.root / ".dvc" / "cache" / "files" / "md5").glob("??/*")):
        named = path.parent.name + path.name.removesuffix(_DIRECTORY_LISTING)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != named:
            raise ArtifactError(
                "a file of DVC's cache is damaged",
                where=str(path),
                expected=f"MD5 {named}, found {found}",
                next_step="delete it, then `dvc fetch`, or `noria run` to make it again",
            )
        yield path
