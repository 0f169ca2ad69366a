"""Staging: a bundle in the store, shown to serve, and not live."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import noria
from noria.artifacts import Artifact, read_artifact
from noria.errors import ArtifactError, BundleError
from noria.serving.bundle import version_of
from noria.serving.companions import DIGEST_FACT
from noria.serving.store import ModelStore

logger = logging.getLogger(__name__)

_PROOF_TIMEOUT_S = 300.0
SIGNING_KEY = "NORIA_SIGNING_KEY"
"""Of the environment: the private key that signs what is deployed; in params.yaml, which is shared, it has no place."""


@dataclass(frozen=True)
class Staged:
    """A version that is ready to go live.

    Attributes
    ----------
    version, place:
        Its name, and its path or URL in the store.
    num_golden:
        Golden requests that it answered as when it was made.
    proof_s:
        Seconds that a fresh process took to fetch, verify, load and answer.
    """

    version: str
    place: str
    num_golden: int
    proof_s: float


def stage_bundle(
    store: ModelStore,
    bundle: Artifact,
    *,
    checkpoint: Artifact | None = None,
    signing_key: Path | None = None,
) -> Staged:
    """Publish the bundle, then prove in a fresh process without torch that the copy serves; then sign it.

    Its checkpoint is published before it, so that what is live can be trained further. Doing it again
    does nothing but prove again. What is live does not change, whatever happens here.

    Raises
    ------
    ArtifactError
        When the checkpoint is damaged.
    BundleError
        When the copy does not load, or answers otherwise than when it was made.
    ConfigError
        When there is no such key.
    StoreError
        When the store can't be written.
    """
    if checkpoint is not None:
        store.checkpoints.publish(checkpoint.path)
    version = version_of(store.publish(bundle.path))
    started = time.monotonic()
    num_golden = prove_apart(store, version)
    proof_s = time.monotonic() - started
    if signing_key is not None:
        store.sign(version, signing_key, made=bundle.path)
    if not store.journal.has("staged", version):
        store.journal.record("staged", version, details={"num_golden": num_golden})
    return Staged(version, store.place(version), num_golden, round(proof_s, 2))


def checkpoint_of(bundle: Artifact, directory: Path) -> Artifact | None:
    """The checkpoint in `directory` if `bundle` was made from it; to serve a bundle, none is needed."""
    try:
        found = read_artifact(directory, verify=False)
    except ArtifactError as error:
        logger.warning("the checkpoint is not published, no training can start from it: %s", error.what)
        return None
    if found.digest != bundle.facts.get(DIGEST_FACT):
        logger.warning("the checkpoint is not published: the bundle was made from another than %s", directory)
        return None
    return found


def prove_apart(store: ModelStore, version: str) -> int:
    """The golden requests that a version answers in a process of its own, which may die of it.

    Raises
    ------
    BundleError
        When it does not load, takes too long, or answers otherwise than when it was made.
    """
    command = [sys.executable, "-m", "noria.serving.prove", store.url, store.name, version, str(store.cache)]
    code = Path(noria.__file__).parents[1]
    try:
        done = subprocess.run(command, cwd=code, capture_output=True, text=True, timeout=_PROOF_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"a fresh process did not serve the bundle within {_PROOF_TIMEOUT_S:g} s", where=store.place(version)
        ) from error
    if done.returncode != 0:
        raise BundleError(
            "a fresh process could not serve the bundle",
            where=store.place(version),
            expected="the answers in golden.json",
            next_step=f"what is live stays live; the process said:\n{done.stderr.strip()}",
        )
    return int(json.loads(done.stdout)["num_golden"])
