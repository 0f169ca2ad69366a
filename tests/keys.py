"""Keys to sign with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyPair:
    private: Path
    public: Path


def key_pair(directory: Path, name: str, algorithm: str = "ed25519") -> KeyPair:
    """As the documentation says to make one."""
    pair = KeyPair(directory / f"{name}.pem", directory / f"{name}.public.pem")
    for command in (
        ["genpkey", "-algorithm", algorithm, "-out", pair.private],
        ["pkey", "-in", pair.private, "-pubout", "-out", pair.public],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return pair
