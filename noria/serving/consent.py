"""What a person said of a challenger that the rows found better."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from noria.artifacts import Artifact, read_artifact, write_artifact

_FILE = "consent.json"


@dataclass(frozen=True)
class Consent:
    """Yes or no to one version, with the reason; `answered` is False where nobody said anything in time."""

    version: str
    approved: bool
    reason: str
    answered: bool = True


def write_consent(path: Path, consent: Consent) -> Artifact:
    """Write the artifact "consent"."""
    with write_artifact(path, kind="consent") as draft:
        (draft.path / _FILE).write_text(json.dumps(asdict(consent), indent=2, ensure_ascii=False) + "\n", "utf-8")
        draft.facts = {"version": consent.version, "approved": consent.approved}
    return read_artifact(path, verify=False)


def read_consent(path: Path) -> Consent | None:
    """The last one; None where nobody was asked.

    Raises
    ------
    ArtifactError
        When it was changed since.
    """
    if not path.exists():
        return None
    return Consent(**json.loads((read_artifact(path).path / _FILE).read_text(encoding="utf-8")))
