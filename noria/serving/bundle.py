"""A bundle: one model, complete, verified, and readable without the code that trained it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from noria.artifacts import Artifact, read_artifact
from noria.config import SplitConfig
from noria.errors import ArtifactError, BundleError, ConfigError
from noria.scenarios import load_scenario
from noria.scenarios.base import Encoder, Scenario

KIND = "bundle"
MODEL = "model.onnx"
ENCODER = "encoder"
CONFIG = "config.json"
CARD = "MODEL_CARD.md"
DATA_CARD = "DATA_CARD.md"
GOLDEN = "golden.json"
_VERSION_DIGITS = 12


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this machine.

    Attributes
    ----------
    artifact:
        Path, digest and facts (metrics, data digest, git commit, op set, candidate, latency).
    scenario, encoder:
        What turns requests into tensors and logits into responses.
    split:
        How the rows that it was trained on were told from those that judged it.
    holdout_share:
        Of the rows to train on, what picked its best epoch and its blend.
    """

    artifact: Artifact
    scenario: Scenario
    encoder: Encoder
    split: SplitConfig
    holdout_share: float

    @property
    def version(self) -> str:
        """What the model is called in the store and in every answer."""
        return version_of(self.artifact)

    @property
    def device(self) -> str:
        """What it was chosen for, and timed on: "cpu" or "cuda"."""
        return str(self.artifact.facts.get("device", "cpu"))

    @property
    def model(self) -> Path:
        return self.artifact.path / MODEL

    @property
    def golden(self) -> Path:
        return self.artifact.path / GOLDEN


def version_of(artifact: Artifact) -> str:
    """The first 12 hexadecimal digits of the digest."""
    return artifact.digest[:_VERSION_DIGITS]


def read_bundle(path: Path) -> Artifact:
    """The bundle at `path`, every byte verified.

    Raises
    ------
    BundleError
        When it is missing, damaged, or something else than a bundle.
    """
    try:
        artifact = read_artifact(path)
    except ArtifactError as error:
        raise BundleError(
            f"the bundle can't be trusted: {error.what}",
            where=error.where,
            expected=error.expected,
            next_step="`noria run` makes or publishes it anew; `noria rollback` serves the version before",
        ) from error
    if artifact.kind != KIND:
        raise BundleError(f"a {artifact.kind}, not a bundle", where=str(path), next_step="name a bundle's directory")
    for name in (MODEL, CONFIG, GOLDEN):
        if name not in artifact.files:
            raise BundleError(f"the bundle has no {name}", where=str(path), next_step="`noria run` makes a new one")
    return artifact


def open_bundle(path: Path) -> Bundle:
    """Verify the bundle at `path` and load what surrounds its graph.

    Raises
    ------
    BundleError
        When it is damaged, or its scenario or its format is not known here.
    """
    artifact = read_bundle(path)
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    try:
        scenario = load_scenario(str(config.get("scenario")))
    except ConfigError as error:
        raise BundleError(
            error.what,
            where=str(path / CONFIG),
            expected=error.expected,
            next_step="serve it with a Noria that knows this scenario",
        ) from error
    try:
        encoder = scenario.load_encoder(path / ENCODER)
        split = SplitConfig.model_validate(config["split"])
        holdout_share = float(config["train"]["holdout_share"])
    except (ArtifactError, KeyError, TypeError, ValueError) as error:  # whole, by its digests: so of another format
        raise BundleError(
            f"the bundle was made for another version of Noria: {error}",
            where=str(path),
            expected=f"a bundle of `{scenario.name}` as this version writes it",
            next_step="`noria run` makes a new one; `noria promote VERSION --reason …` makes it live by hand",
        ) from error
    return Bundle(artifact, scenario, encoder, split, holdout_share)
