"""Who is let in at all: by the name that the server is called by, and by the bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers

from noria.config import ServeConfig
from noria.errors import ConfigError
from noria.serving.address import Names
from noria.serving.clients import client_of
from noria.serving.page import PUBLIC
from noria.serving.refusal import Refusal

DEFAULT_TOKEN_ENV = "NORIA_TOKEN"
OPEN = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Probes know no token, and call a server by its address. Every other path is guarded, also one that is added; the
page's own files want no token."""


@dataclass(frozen=True)
class Guard:
    """What a request must bring.

    Attributes
    ----------
    tokens:
        Each is of a client; none where everybody may ask.
    names:
        What the server may be called.
    """

    tokens: tuple[bytes, ...]
    names: Names

    def refusal(self, path: str, headers: Headers) -> Refusal | None:
        """Why the request may not come in, if so."""
        if path in OPEN:
            return None
        if not self.names.know(headers.getlist("host")):
            return Refusal(
                400,
                "the server is not known by the name that the Host header says",
                expected="a name of this machine, or one of `serve.hosts`",
                reason="host",
            )
        if path not in PUBLIC and self.tokens and self._number(headers) is None:
            return Refusal(
                401, "the token is missing or wrong", expected="Authorization: Bearer TOKEN", next_step="send the token"
            )
        return None

    def client(self, headers: Headers, address: tuple[str, int] | None) -> str:
        """Whose request it is: that of a token where there are several, or else of an address."""
        number = self._number(headers) if len(self.tokens) > 1 else None
        if number is not None:
            return f"token {number}"
        return client_of(address[0]) if address else ""

    def _number(self, headers: Headers) -> int | None:
        """Which of the tokens it brings; all are compared, which takes as long whichever it is."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given_bytes = given.strip().encode("latin-1")
        fitting = [number for number, token in enumerate(self.tokens) if hmac.compare_digest(given_bytes, token)]
        return fitting[0] if fitting and scheme.lower() == "bearer" else None


def guard_of(config: ServeConfig, environment: Mapping[str, str]) -> Guard:
    """What the configuration and the environment ask for.

    Raises
    ------
    ConfigError
        When `serve.token_env` names a variable that holds no token.
    """
    name = config.token_env or DEFAULT_TOKEN_ENV
    tokens = [token.strip() for token in environment.get(name, "").split(",")]
    if not all(tokens) and (config.token_env or name in environment):
        raise ConfigError(
            f"the environment variable {name} holds no token, or an empty one",
            where="serve.token_env" if config.token_env else name,
            expected="the token that clients send, or several with commas between them, in this variable",
            next_step=f'{name}="$(openssl rand -hex 32)" noria serve; without a token: unset both',
        )
    return Guard(tuple(token.encode() for token in tokens if token), Names.of(config.host, config.hosts))
