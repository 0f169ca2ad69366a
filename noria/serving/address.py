"""Where a server listens, by which address it is reached, and by which names it may be called."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from noria.errors import BundleError

_ANY = "*"
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_BACKLOG = 1024


@dataclass(frozen=True)
class Names:
    """What a server may be called.

    Attributes
    ----------
    hosts:
        In lower case.
    by_address:
        Whether any address will do for a name. A page that a browser was lured to can make it call us by a
        name (DNS rebinding), never by an address that the page did not come from.
    """

    hosts: frozenset[str]
    by_address: bool

    @classmethod
    def of(cls, host: str, more: Iterable[str] = ()) -> Names:
        """Those of a server that listens on `host`, and `more`; `*` among them is any."""
        hosts = frozenset(name.lower() for name in (*_THIS_MACHINE, host, *more) if name)
        return cls(hosts, by_address=is_wildcard(host))

    def know(self, headers: Sequence[str]) -> bool:
        """Whether the `Host` headers of a request, of which there must be one, name this server."""
        host = _host(headers[0]) if len(headers) == 1 else ""
        return _ANY in self.hosts or host in self.hosts or (self.by_address and _is_address(host))


def listen(host: str, port: int, *, command: str) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. `command` is ours that was asked to.

    Whoever connects from now on waits for the application instead of being refused.

    Raises
    ------
    BundleError
        When the address is taken or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay off only where a socket says that it is TCP: otherwise an answer waits 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:  # a port beyond 65535 overflows
        listener.close()
        raise BundleError(
            f"the server can't listen: {getattr(error, 'strerror', None) or error}",
            where=f"{host}:{port}",
            expected="an address of this machine and a free port",
            next_step=f"`{command} --port 0` takes a free one",
        ) from error
    return listener


def url_of(host: str, port: int) -> str:
    """`http://host:port`, with brackets around an IPv6 address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def loopback(host: str) -> str:
    """Where a server that listens on `host` is reached from this machine: all addresses are none to ask."""
    if not is_wildcard(host):
        return host
    return "::1" if ":" in host else "127.0.0.1"


def is_wildcard(host: str) -> bool:
    """Whether it stands for all addresses of this machine."""
    return host == "" or (_is_address(host) and ipaddress.ip_address(host).is_unspecified)


def _host(header: str) -> str:
    """The name without its port."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
