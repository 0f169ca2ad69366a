"""Files over HTTP, from hosts that `source.hosts` names and from no other, wherever a redirect leads.

DVC, for which the URL is a dependency, asks for the headers of the file by itself, and follows where they lead.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from types import SimpleNamespace

import aiohttp
from fsspec import AbstractFileSystem
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL

from noria.config.data import is_host_among

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


class RedirectRefused(OSError):
    """A host that may be asked sends us to one that may not."""


def http_filesystem(hosts: Sequence[str]) -> AbstractFileSystem:
    """Reads URLs; a file is fetched whole, into a temporary directory, when it is first opened.

    So a file that changes meanwhile is never read half old and half new, and a server need not know ranges.
    """

    async def follow(
        session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
    ) -> None:
        del session, context
        location = params.response.headers.get("Location") or params.response.headers.get("URI") or ""
        try:
            target = params.response.url.join(URL(location))
            is_known = is_host_among(str(target), hosts)
        except ValueError as error:
            raise RedirectRefused(f"{params.response.url} redirects to no URL: {location!r}") from error
        if not is_known:
            raise RedirectRefused(f"{params.response.url} redirects to {target}, and source.hosts names only {hosts}")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(follow)
    remote = HTTPFileSystem(client_kwargs={"trace_configs": [trace], "timeout": _TIMEOUT}, skip_instance_cache=True)
    return SimpleCacheFileSystem(fs=remote, skip_instance_cache=True)


ERRORS = (aiohttp.ClientError, ssl.SSLError)
"""What fetching can raise beside `OSError`."""
