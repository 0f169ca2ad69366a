"""The web page at `/`: a few static files, public because they hold nothing; all that they show is asked for later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

_SCRIPTS = (
    *("page", "server", "words", "elements"),
    *("request", "media", "sound", "answer", "occlusion", "feedback"),
    *("about", "markdown", "metrics"),
)
_FILES: Mapping[str, str] = {
    "/": "index.html",
    **{f"/page/{name}.css": f"{name}.css" for name in ("colours", "page", "controls", "answers")},
    **{f"/page/{name}.js": f"{name}.js" for name in _SCRIPTS},
}
PUBLIC = frozenset(_FILES)
"""Their paths: who may not ask the server for anything may still load the page, which then asks for the token."""
_KINDS: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_POLICY: Mapping[str, str] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "media-src": "blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",  # a string never becomes markup, whatever a model answers
    "trusted-types": "'none'",
}
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-cache",
}


def page() -> APIRouter:
    """The routes of the page, its files read once."""
    router = APIRouter(include_in_schema=False)
    for path, name in _FILES.items():
        router.get(path)(_answers_with(Path(__file__).with_name("static") / name))
    return router


def _answers_with(path: Path) -> Callable[[], Awaitable[Response]]:
    content, media_type = path.read_bytes(), _KINDS[path.suffix]

    async def answer() -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return answer
