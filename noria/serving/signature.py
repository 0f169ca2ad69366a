"""Signatures of bundles: Ed25519 (RFC 8032) over the manifest, which has the SHA-256 of every other file.

A key pair is made by OpenSSL:

    openssl genpkey -algorithm ed25519 -out signing.pem
    openssl pkey -in signing.pem -pubout -out public.pem
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from noria.errors import BundleError, ConfigError

_PURPOSE = b"noria bundle 1\n"  # so that a signature of something else is never one of a bundle


def sign(manifest: bytes, private_key: Path) -> bytes:
    """64 bytes.

    Raises
    ------
    ConfigError
        When the file holds no private Ed25519 key, or one behind a password.
    """
    try:
        key = load_pem_private_key(_read(private_key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(private_key, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(private_key, "private")
    return key.sign(_PURPOSE + manifest)


def check(manifest: bytes, signature: bytes | None, public_key: Path, *, where: str) -> None:
    """Nothing, when the signature is that of the key's owner.

    Raises
    ------
    BundleError
        When there is no signature, or that of another manifest or another key.
    ConfigError
        When the file holds no public Ed25519 key.
    """
    try:
        key = load_pem_public_key(_read(public_key))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(public_key, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(public_key, "public")
    if signature is None:
        raise BundleError(
            "the version is not signed",
            where=where,
            expected=f"a signature of the owner of {public_key}",
            next_step="`noria sign VERSION --key PRIVATE.pem`",
        )
    try:
        key.verify(signature, _PURPOSE + manifest)
    except InvalidSignature as error:
        raise BundleError(
            "the signature is not that of this bundle by this key",
            where=where,
            expected=f"a signature of the owner of {public_key}",
            next_step="find out who published it before `noria sign VERSION --key PRIVATE.pem` vouches for it",
        ) from error


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
