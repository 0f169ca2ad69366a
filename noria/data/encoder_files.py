"""An encoder of text in two files: its tokenizer, and its settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tokenizers import Tokenizer

from noria.errors import ArtifactError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SettingsT = TypeVar("SettingsT", bound="DataclassInstance")


def save_encoder(directory: Path, tokenizer: Tokenizer, settings: DataclassInstance) -> None:
    """Write `tokenizer.json` and `encoder.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "encoder.json").write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def load_encoder(directory: Path, settings: type[SettingsT], *, of: str) -> tuple[Tokenizer, SettingsT]:
    """Read what `save_encoder` wrote; `of` names what is encoded, for people.

    Raises
    ------
    ArtifactError
        When a file is missing.
    """
    try:
        values = json.loads((directory / "encoder.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"there is no encoder of {of} here", where=str(directory), expected="encoder.json, tokenizer.json"
        ) from None
    return Tokenizer.from_file(str(directory / "tokenizer.json")), settings(**values)
