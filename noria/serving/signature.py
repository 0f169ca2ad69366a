"""Signatures of bundles: Ed25519 (RFC 8032) over the model's name and the manifest, which has each file's SHA-256.

A key pair is made by OpenSSL:

    openssl genpkey -algorithm ed25519 -out signing.pem
    openssl pkey -in signing.pem -pubout -out public.pem
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from noria.errors import BundleError, ConfigError


@dataclass(frozen=True)
class Signed:
    """What a signature vouches for: this manifest, as one of the model called `name`."""

    name: str
    manifest: bytes

    @property
    def message(self) -> bytes:
        """In words of its own, so that a signature of something else is never one of a bundle."""
        return b"noria bundle 1\n" + self.name.encode() + b"\n" + self.manifest


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file.

    Raises
    ------
    ConfigError
        When the file holds no private Ed25519 key, or one behind a password.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The key in a PEM file.

    Raises
    ------
    ConfigError
        When the file holds no public Ed25519 key.
    """
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def is_signed(signed: Signed, signature: bytes | None, key: Ed25519PublicKey) -> bool:
    """Whether the key's owner signed it."""
    try:
        key.verify(signature or b"", signed.message)
    except InvalidSignature:
        return False
    return True


def check(signed: Signed, signature: bytes | None, key: Ed25519PublicKey, *, where: str, version: str) -> None:
    """Nothing, when the key's owner signed it.

    Raises
    ------
    BundleError
        When there is no signature, or that of another manifest, model or key.
    """
    if is_signed(signed, signature, key):
        return
    is_missing = signature is None
    raise BundleError(
        "the version is not signed" if is_missing else "the signature is not that of this bundle by this key",
        where=where,
        expected="a signature of the owner of `deploy.public_key`, or of the key that was given",
        next_step=f"`noria sign {version} --key PRIVATE.pem` vouches for it"
        + ("" if is_missing else ": find out first who published it"),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the key can't be read: {error.strerror}", where=str(path), expected="a PEM file") from error


def _no_key(path: Path, kind: str) -> ConfigError:
    return ConfigError(
        f"this is no {kind} Ed25519 key without a password",
        where=str(path),
        expected="a PEM file",
        next_step="openssl genpkey -algorithm ed25519 -out signing.pem; "
        "openssl pkey -in signing.pem -pubout -out public.pem",
    )
