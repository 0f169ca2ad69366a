"""What is said to a client whose request is not answered, in the shape that its route speaks."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from starlette.responses import JSONResponse

from noria.errors import NoriaError

PROTOCOL_PATH = "/v2"
_MOST_ERRORS, _MOST_ECHOED_CHARS = 1_000, 100
_REASONS: Mapping[int, str] = {
    400: "malformed",
    401: "unauthorized",
    404: "not_found",
    405: "not_found",
    408: "slow_body",
    413: "too_large",
    422: "invalid",
    429: "overloaded",
    431: "too_large",
    499: "client_left",
    500: "failed",
}
CLIENT_LEFT = 499
"""Nobody reads it; the log and the metrics have it."""


class Refusal(NoriaError):
    """A request that can't be answered.

    Parameters
    ----------
    status:
        HTTP's.
    reason:
        One word for the metrics; by default that of the status.
    retry_after_s:
        When to come again, where that helps.
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        where: str = "",
        expected: str = "",
        next_step: str = "",
        reason: str = "",
        retry_after_s: int | None = None,
    ) -> None:
        self.status = status
        self.reason = reason or _REASONS.get(status, "other")
        self.retry_after_s = retry_after_s
        super().__init__(what, where=where, expected=expected, next_step=next_step)


class ModelFailed(Refusal):
    """Of a request on which the model raised, or we did."""

    def __init__(self) -> None:
        super().__init__(
            500, "the model failed on this request", next_step="the server's log has the trace, by request id"
        )


def first_error(error: ValidationError, where: str = "") -> tuple[str, str]:
    """The place of the first error, below `where`, and what it is.

    Of more than a thousand errors none is named: pydantic tells all or none, and a million of them take gigabytes.
    """
    if error.error_count() > _MOST_ERRORS:
        return where, f"{error.error_count():,} values are wrong"
    first = error.errors()[0]
    return ".".join(str(part) for part in (where, *first["loc"]) if part != "")[:_MOST_ECHOED_CHARS], first["msg"]


def refusal_response(
    refusal: Refusal, *, path: str, request_id: str, about: Mapping[str, str] | None = None
) -> JSONResponse:
    """The refusal as JSON; `about` is said beside the error, where the route leaves room for it."""
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if path == PROTOCOL_PATH or path.startswith(f"{PROTOCOL_PATH}/"):
        return JSONResponse({"error": _in_one_line(refusal)}, status_code=refusal.status, headers=headers)
    error = error_fields(refusal)
    return JSONResponse(
        {"error": error, **(about or {}), "request_id": request_id}, status_code=refusal.status, headers=headers
    )


def error_fields(refusal: Refusal) -> dict[str, str]:
    """What, where, expected, next: those that there is something to say of."""
    fields = {
        "what": refusal.what,
        "where": refusal.where,
        "expected": refusal.expected,
        "next": refusal.next_step,
    }
    return {name: text for name, text in fields.items() if text}


def _in_one_line(refusal: Refusal) -> str:
    expected = f"; expected {refusal.expected}" if refusal.expected else ""
    return f"{refusal.what}{expected}"
