"""What `noria reports` serves: pages of runs and searches for people, metrics of runs for Prometheus. Read-only."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.metrics import runs_metrics
from noria.report.html import POLICY, render
from noria.report.links import place_of, shown
from noria.report.parts import Cell, Link, Section, table
from noria.serving.address import Names
from noria.serving.connection import uvicorn_config
from noria.serving.metrics import CONTENT_TYPE
from noria.workspace import Workspace
from tasks.runs import read_runs

_HEALTH = "/healthz"
_GRACE_S = 10
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".diff": "text/plain; charset=utf-8",
}
_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_UNKNOWN = PlainTextResponse("This server is not known by that name: `noria reports --name NAME`.\n", 400)


def create_app(workspaces: Mapping[str, Workspace], *, names: Names) -> Starlette:
    """The application for these workspaces, by the names of their models; it answers to `names` alone."""
    page = _page(workspaces)
    routes = [
        Route(_HEALTH, lambda _: PlainTextResponse("ok\n")),
        Route("/", lambda _: Response(_overview(workspaces), media_type=_KINDS[".html"])),
        Route("/metrics", _metrics(runs_metrics(list(workspaces.values())))),
        Route("/{model}/{directory}", _into_directory),
        Route("/{model}/{directory}/", page),
        Route("/{model}/{directory}/{file}", page),
    ]
    return Starlette(routes=routes, middleware=[Middleware(_Doorway, names=names)])


def serve_reports(app: Starlette, listener: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM."""
    uvicorn.Server(uvicorn_config(app, grace_s=_GRACE_S)).run(sockets=[listener])


class _Doorway:
    """ASGI middleware: who calls us by another's name stays outside, and every answer has the headers of a page."""

    def __init__(self, app: ASGIApp, *, names: Names) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        is_open = scope["type"] != "http" or scope["path"] == _HEALTH  # a probe calls by any name
        is_known = is_open or self._names.know(Headers(scope=scope).getlist("host"))
        app = self._app if is_known else _UNKNOWN
        await app(scope, receive, send_with_headers)


def _metrics(registry: CollectorRegistry) -> Callable[[Request], Response]:
    return lambda _: Response(generate_latest(registry), media_type=CONTENT_TYPE)


def _into_directory(request: Request) -> Response:
    """To the same with a slash, without a word of scheme, host or what lies before: a proxy may have other ones."""
    return RedirectResponse(f"./{request.path_params['directory']}/")


def _page(workspaces: Mapping[str, Workspace]) -> Callable[[Request], Response]:
    """A file that lies in a directory that is shown, itself and not by a link to elsewhere."""
    directories = {
        (model, name): directory
        for model, workspace in workspaces.items()
        for name, directory in shown(workspace).items()
    }

    def answer(request: Request) -> Response:
        asked = request.path_params
        directory, file = directories.get((asked["model"], asked["directory"])), asked.get("file", "index.html")
        if directory is None:
            raise HTTPException(404)
        try:
            path = (directory / file).resolve(strict=True)
            is_shown = path.parent == directory.resolve() and path.is_file() and path.suffix in _KINDS
            page = path.read_bytes() if is_shown else None
        except (OSError, RuntimeError, ValueError):  # no such file (any more), links in a circle, what can't be a name
            page = None
        if page is None:
            raise HTTPException(404)
        return Response(page, media_type=_KINDS[path.suffix])

    return answer


def _overview(workspaces: Mapping[str, Workspace]) -> str:
    sections = [
        Section(model, f"{workspace.scenario.name}, in `{workspace.root}`", (table("report | began | ended", rows),))
        for model, workspace in workspaces.items()
        if (rows := list(_pages(workspace)))
    ]
    return render("reports.html", sections=sections)


def _pages(workspace: Workspace) -> Iterator[tuple[Cell, ...]]:
    """A row a page, the latest run first."""
    if (search := workspace.tuning_report / "index.html").exists():
        yield Link("the last search", place_of(workspace, search)), "", ""
    pages = {path.stem.rpartition("-")[2]: path for path in workspace.run_reports.glob("2*.html")}
    for run in reversed(read_runs(workspace)):
        if (page := pages.get(run.run[:8])) is not None:
            yield Link(f"{run.flow} {run.state}", place_of(workspace, page)), run.started, run.ended or ""
