"""Artifacts: content-addressed directories that say what is in them and where it came from.

A directory is written beside its final place and renamed into it; `manifest.json` is written last,
so its presence means complete. Nothing in a manifest depends on the clock or the machine: equal
inputs give equal bytes, and DVC sees a hit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from noria.errors import ArtifactError, LedgerError

MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20
_TRAINING_CODE = ("data", "model", "recipes", "scenarios", "training")


@dataclass(frozen=True)
class Ledger:
    """Where the rows of a stage went: `rows_in + added == rows_out + quarantined`."""

    rows_in: int
    rows_out: int
    quarantined: int = 0
    added: int = 0

    def check(self, stage: str) -> Ledger:
        """Return self when it balances.

        Raises
        ------
        LedgerError
            When rows were lost or made up.
        """
        if self.rows_in + self.added != self.rows_out + self.quarantined:
            raise LedgerError(
                f"{stage} does not account for every row",
                where=f"{self.rows_in} in + {self.added} added, {self.rows_out} out + {self.quarantined} quarantined",
                expected="rows in + rows added = rows out + rows quarantined",
                next_step="this is a fault in Noria or in a scenario's repair: report it with the data that shows it",
            )
        return self


@dataclass(frozen=True)
class Ancestor:
    """What is known of an artifact that others were made from; its files may be elsewhere by now."""

    digest: str
    counts: Mapping[str, int]
    ledger: Ledger | None
    facts: Mapping[str, object]


@dataclass(frozen=True)
class Artifact:
    """One complete directory.

    Attributes
    ----------
    kind:
        What it holds: "raw", "preprocessed", "splits", "checkpoint", "bundle" …
    path:
        The directory.
    digest:
        SHA-256 over the sorted relative paths and bytes of its files, the manifest excepted.
    parents:
        Digests of the artifacts it was made from.
    counts:
        Rows per part and whatever else a person counts ("train", "validation", "negative" …).
    ledger:
        None for artifacts that hold no rows.
    files:
        SHA-256 of every file, by relative path.
    facts:
        What else is known and worth keeping (a bundle's metrics, op set, git commit …); not part of the digest.
    lineage:
        All that it was made from, by kind; of several of one kind the last.
    """

    kind: str
    path: Path
    digest: str
    parents: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    ledger: Ledger | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    lineage: Mapping[str, Ancestor] = field(default_factory=dict)


class Draft:
    """An artifact being written: files go under `path`, what is known about them into the fields."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[str, int] = {}
        self.facts: dict[str, object] = {}
        self.ledger: Ledger | None = None


@contextmanager
def write_artifact(path: Path, *, kind: str, parents: tuple[Artifact, ...] = ()) -> Iterator[Draft]:
    """Write an artifact: all of it appears at `path` at once, or nothing does.

    The ledger, when set, is checked before anything is renamed. An artifact already at `path` is
    replaced. On an exception the half-written directory is removed and the exception goes on; what a
    killed writer left is removed by the next (there is one at a time: it holds the workspace).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}-????????"):  # as mkdtemp names them
        shutil.rmtree(left)
    draft = Draft(Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)))
    try:
        yield draft
        if draft.ledger is not None:
            draft.ledger.check(kind)
        files = digest_files(draft.path)
        manifest = {
            "kind": kind,
            "digest": digest_of(files),
            "parents": [parent.digest for parent in parents],
            "counts": draft.counts,
            "ledger": asdict(draft.ledger) if draft.ledger else None,
            "files": files,
            "facts": draft.facts,
            "lineage": {kind: asdict(ancestor) for kind, ancestor in _lineage(parents).items()},
        }
        (draft.path / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        draft.path.chmod(0o755)  # mkdtemp makes private directories; artifacts are shared through the DVC cache
        if path.exists():
            shutil.rmtree(path)
        draft.path.replace(path)
    except BaseException:
        shutil.rmtree(draft.path, ignore_errors=True)
        raise


def read_artifact(path: Path, *, verify: bool = True) -> Artifact:
    """Read what is at `path`; with `verify`, recompute its digest first.

    Raises
    ------
    ArtifactError
        When it is missing, incomplete or changed since it was written.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError:
        raise ArtifactError(
            "there is no complete artifact here",
            where=str(path),
            expected=f"a directory with {MANIFEST}",
            next_step="`noria run` makes it; `noria plan` says which stages are missing",
        ) from None
    except ValueError as error:
        raise ArtifactError(
            f"the manifest is not JSON: {error}",
            where=str(path / MANIFEST),
            next_step="delete the directory and `noria run`",
        ) from error
    try:
        artifact = Artifact(
            kind=manifest["kind"],
            path=path,
            digest=manifest["digest"],
            parents=tuple(manifest["parents"]),
            counts=manifest["counts"],
            ledger=_ledger(manifest),
            files=dict(manifest["files"]),
            facts=manifest["facts"],
            lineage={kind: _ancestor(values) for kind, values in manifest.get("lineage", {}).items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"the manifest is not one of Noria's: {error!r}",
            where=str(path / MANIFEST),
            next_step="delete the directory and `noria run`",
        ) from error
    if verify:
        _verify(path, artifact)
    return artifact


def _lineage(parents: tuple[Artifact, ...]) -> dict[str, Ancestor]:
    """Of what is made from `parents`: theirs, and they themselves behind it."""
    found: dict[str, Ancestor] = {}
    for parent in parents:
        found |= parent.lineage
    return found | {p.kind: Ancestor(p.digest, p.counts, p.ledger, p.facts) for p in parents}


def _ancestor(values: Mapping[str, Any]) -> Ancestor:
    return Ancestor(values["digest"], values["counts"], _ledger(values), values["facts"])


def _ledger(values: Mapping[str, Any]) -> Ledger | None:
    return Ledger(**values["ledger"]) if values["ledger"] else None


def _verify(path: Path, artifact: Artifact) -> None:
    expected, found = artifact.files, digest_files(path)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            state = "missing" if name not in found else "not in the manifest" if name not in expected else "changed"
            raise ArtifactError(
                f"a file is {state}",
                where=str(path / name),
                expected=f"SHA-256 {expected.get(name, 'none')[:12]}, found {found.get(name, 'none')[:12]}",
                next_step="`dvc checkout --force` restores it, or delete the directory and `noria run`",
            )
    if artifact.digest != digest_of(expected):
        raise ArtifactError(
            "the manifest's digest is not that of its files",
            where=str(path / MANIFEST),
            expected=f"{digest_of(expected)[:12]}, found {artifact.digest[:12]}",
            next_step="`dvc checkout --force` restores it, or delete the directory and `noria run`",
        )


def digest_files(path: Path) -> dict[str, str]:
    """SHA-256 of every file below `path` by relative path, the manifest at the top excepted."""
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return {name: digest_file(path / name) for name in names if name != MANIFEST}


def digest_of(files: Mapping[str, str]) -> str:
    """One SHA-256 over sorted relative paths and the digests of their bytes."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{files[name]}\n".encode())
    return total.hexdigest()


def digest_training_code() -> str:
    """SHA-256 of what encodes rows, builds a model and trains it: another version of it starts anew."""
    root = Path(__file__).parent
    files = (path for package in _TRAINING_CODE for path in (root / package).glob("*.py"))
    return digest_of({path.relative_to(root).as_posix(): digest_file(path) for path in files})


def digest_file(path: Path) -> str:
    """SHA-256 of one file's bytes, in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()
