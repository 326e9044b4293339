"""Everything that goes wrong, said as a problem (RFC 9457): one JSON shape, one clear sentence.

What is wrong with a request is decided where that is found out; here is how it is told, for faults of the database and of ours too.
"""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException as AnyHTTPException

from arcadia_dagster.ledger.schema import reason

MEDIA_TYPE = "application/problem+json"
_logger = logging.getLogger(__name__)
_CANCELLED, _NOT_ALLOWED, _NO_SUCH_ROLE = "57014", "42501", "22023"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})

    type: str = Field(description="Always `about:blank`: `status` says all that a program need know", examples=["about:blank"])
    title: str = Field(description="The name of the status", examples=["Bad Request"])
    status: int = Field(description="The HTTP status", examples=[400])
    detail: str = Field(description="What is wrong and what to do, for a person", examples=["limit: input should be 1000 or less"])


# What is said where no more can be, and what the OpenAPI document shows as examples.
DETAILS = {
    400: "limit: input should be less than or equal to 1000",
    401: "this needs a key: send the header Authorization: Bearer KEY",
    403: "this key is a tenant's, and only an admin's may read this",
    404: "there is no such resource",
    503: "the ledger's database cannot answer now; try again later",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an operation may answer beside its result, for the OpenAPI document."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _body(status, DETAILS[status])}
        documented[status] = {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: content}}
        if status == HTTPStatus.UNAUTHORIZED:
            header = {"description": "How to authenticate", "required": True, "schema": {"type": "string"}}
            documented[status]["headers"] = {"WWW-Authenticate": header}
    return documented


def install(app: FastAPI) -> None:
    """Have every failure of the app answered as a problem."""

    @app.exception_handler(AnyHTTPException)
    def refused(request: Request, error: AnyHTTPException) -> JSONResponse:
        detail = error.detail
        if detail == HTTPStatus(error.status_code).phrase:  # the router's own
            if error.status_code == HTTPStatus.NOT_FOUND:
                detail = f"there is nothing at this address; {app.openapi_url} lists what there is"
            elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
                detail = f"{request.method} is not possible here: this API is read only, use GET"
        return _answer(error.status_code, detail, error.headers)

    @app.exception_handler(RequestValidationError)
    def not_valid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(400, "; ".join(dict.fromkeys(map(_sentence, error.errors()))))

    @app.exception_handler(SQLAlchemyError)
    def database_failed(_: Request, error: SQLAlchemyError) -> JSONResponse:
        state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
        # The error's own text holds the statement and its parameters.
        _logger.error("the database: %s", reason(error) if isinstance(error, DBAPIError) else type(error).__name__)
        if state == _NOT_ALLOWED:
            return _answer(403, "the database does not let this key read that")
        if state == _NO_SUCH_ROLE:
            return _answer(403, "the database has no role for this key any more")
        if state == _CANCELLED:
            return _answer(503, "the database took too long over this; ask for less, with a smaller limit or more filters")
        return _answer(503, DETAILS[503])

    @app.exception_handler(Exception)
    def ours(_: Request, __: Exception) -> JSONResponse:  # the server logs it
        return _answer(500, "this is a fault of the server; its log says more")


def bad_request(detail: str) -> HTTPException:
    """To raise where a request cannot be meant as it is."""
    return HTTPException(400, detail)


def _sentence(error: Any) -> str:
    name = str(error["loc"][-1])[:100]
    if error["type"] == "extra_forbidden":
        return f"there is no parameter {name!r} here"
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"


def _body(status: int, detail: str) -> dict[str, Any]:
    return Problem(type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()


def _answer(status: int, detail: str, headers: Any = None) -> JSONResponse:
    return JSONResponse(_body(status, detail), status, headers, MEDIA_TYPE)
