"""Whose a request is: what fairness is among."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

KEY = "NORIA_CLIENTS_KEY"
"""Of the environment: a secret that several servers share, so that each calls a client by the same pseudonym."""
_KEY_BYTES, _DIGITS = 32, 16


def client_of(address: str) -> str:
    """The client at an address; of IPv6 its network, because one client has all addresses in it."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if known.version == 4:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False))


def pseudonym_of(client: str, *, key: bytes) -> str:
    """16 hexadecimal digits by which a client can be told from others, and without the key by nobody found.

    HMAC-SHA256 (RFC 2104): addresses are few enough to try them all against a plain hash.
    """
    return hmac.new(key, client.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def clients_key(path: Path, environment: Mapping[str, str]) -> bytes:
    """The secret behind pseudonyms: the environment's, or that of this machine, made when there is none."""
    if given := environment.get(KEY):
        return given.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # for its owner alone
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        with suppress(FileExistsError):
            os.link(temporary, path)  # whole or not at all: an empty secret would be none
        Path(temporary).unlink()
    return path.read_bytes()
