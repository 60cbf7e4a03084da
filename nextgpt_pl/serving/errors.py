"""Errors of requests in OpenAI's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """The body of a response with an error."""

    error: ErrorDetail


class RequestError(HTTPException):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: what is wrong.
        param: the field of the request that is wrong.
        code: a short name that programs can compare.
        headers: further headers of the response.

    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code)).model_dump()

    def response(self) -> JSONResponse:
        """The error as a response."""
        return JSONResponse(self.body, self.status_code, self.headers)


def internal() -> RequestError:
    """The error of a request that has failed; the cause is in the server's log only."""
    return RequestError(500, "the server has failed; its log says why", code="internal_error")


def handle_errors(app: FastAPI) -> None:
    """Give all errors of an app OpenAI's format."""

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> JSONResponse:
        if not isinstance(error, RequestError):
            error = RequestError(error.status_code, str(error.detail), headers=error.headers)
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error.errors()).response()

    @app.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> JSONResponse:
        return internal().response()


def _invalid(errors: Sequence[Mapping[str, Any]]) -> RequestError:
    """The first of pydantic's errors."""
    first = errors[0]
    place = ".".join(str(step) for step in first["loc"] if step != "body")
    if first["type"] == "extra_forbidden":
        return RequestError(400, f"{place}: this server does not support the field", place, "unknown_parameter")
    given = "" if isinstance(first.get("input"), (dict, list)) else f"; got {first.get('input')!r:.60}"
    return RequestError(400, f"{place or 'body'}: {first['msg']}{given}", place or None)
