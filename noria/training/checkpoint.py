"""The trained model at rest: weights as safetensors, the resolved configuration and the encoder, no pickle."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import Config
from noria.errors import ArtifactError, DiskFull
from noria.scenarios.base import Encoder, Scenario

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_ENCODER = "encoder"


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode, float32 on the CPU, with what it needs."""

    model: nn.Module
    encoder: Encoder
    config: Config


def save_trained(
    path: Path,
    *,
    weights: Mapping[str, Tensor],
    encoder: Encoder,
    config: Config,
    parents: tuple[Artifact, ...],
    counts: Mapping[str, int],
    facts: Mapping[str, object],
) -> Artifact:
    """Write a checkpoint artifact and return it.

    Raises
    ------
    DiskFull
        When there is no room for it.
    """
    with _in_room(path), write_artifact(path, kind="checkpoint", parents=parents) as draft:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, draft.path / _WEIGHTS)
        (draft.path / _WEIGHTS).chmod(0o644)  # safetensors makes private files; artifacts are shared
        (draft.path / _CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        encoder.save(draft.path / _ENCODER)
        draft.counts.update(counts)
        draft.facts.update(facts)
    return read_artifact(path, verify=False)


@contextmanager
def _in_room(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        from noria.training.state import as_os_error  # whoever reads a checkpoint needs nothing of how it was trained

        if (known := as_os_error(error, path)).errno != errno.ENOSPC:
            raise
        raise DiskFull(
            "there is no room for the trained model",
            where=str(known.filename or path),
            next_step="make room, then run it again: it goes on from the saved state",
        ) from error


def load_trained(path: Path, *, scenario: Scenario) -> Trained:
    """Read a checkpoint.

    Raises
    ------
    ArtifactError
        When it is missing, damaged, or not of this scenario's model and this version of Noria.
    """
    read_artifact(path)
    try:
        config = Config.model_validate_json((path / _CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError) as error:
        raise _foreign(path / _CONFIG, f"the settings are not those of this version: {error}", scenario) from error
    try:
        encoder = scenario.load_encoder(path / _ENCODER)
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path / _ENCODER, f"the encoder is not one of this version: {error}", scenario) from error
    model = scenario.build_model(config, encoder)
    try:
        model.load_state_dict(load_file(path / _WEIGHTS))
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise _foreign(path / _WEIGHTS, f"the weights don't fit the model: {error}", scenario) from error
    return Trained(model.eval(), encoder, config)


def _foreign(path: Path, what: str, scenario: Scenario) -> ArtifactError:
    return ArtifactError(
        what,
        where=str(path),
        expected=f"a checkpoint of `{scenario.name}` from this version of Noria",
        next_step="`noria run` trains again",
    )
