"""The read API as an application: addresses, who may ask, and how answers are paged. Read only: nothing here writes.

What is read is said in `reading.py`, how it looks in `models.py`. A key decides the role under which the database is asked, and the
database decides what that role sees; there is no filter by tenant here that could be forgotten.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection, Engine

from arcadia_dagster.api import problems, reading
from arcadia_dagster.api.models import (
    Balances,
    CostLinesPage,
    CostLinesQuery,
    EntryKey,
    Health,
    InventoryKey,
    InventoryPage,
    InventoryQuery,
    LineKey,
    OfAccount,
    Paged,
    ResourceId,
    TimelinePage,
)
from arcadia_dagster.api.paging import Pages
from arcadia_dagster.ledger.api_keys import ApiKey, find_key
from arcadia_dagster.ledger.schema import revisions

_DESCRIPTION = """\
What a ledger of DigitalOcean accounts holds. Money is USD, exact, in strings; times are UTC (RFC 3339). Answers come in pages: follow the
header `Link`, or hand `next` back as `cursor`; what is there all the while is shown exactly once. Whatever goes wrong is a problem
(RFC 9457). A tenant's key sees what belongs to the tenant, an admin's everything.
"""


@dataclass(frozen=True)
class Caller:
    """Whoever asks."""

    engine: Engine
    key: ApiKey

    def reading(self) -> AbstractContextManager[Connection]:
        """A read-only transaction under the role of the key."""
        return reading.transaction(self.engine, self.key.role_name)


_bearer = HTTPBearer(scheme_name="key", description="A key of `arcadia keys add`, sent as a bearer token (RFC 6750)", auto_error=False)


def _caller(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    engine: Engine = request.app.state.engine
    if given is None:
        raise HTTPException(401, problems.DETAILS[401], {"WWW-Authenticate": "Bearer"})
    with reading.transaction(engine) as conn:
        key = find_key(conn, given.credentials)
    if key is None:
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise HTTPException(401, "this key is not known, or has been revoked; `arcadia keys add` makes one", challenge)
    return Caller(engine, key)


def _admin(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if caller.key.tenant_id is not None:
        raise HTTPException(403, problems.DETAILS[403])
    return caller


def _given_once(request: Request, caller: Annotated[Caller, Depends(_caller)]) -> None:
    del caller  # who may not ask at all is told that first
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            raise problems.bad_request(f"{name[:100]}: given more than once")
        seen.add(name)


AnyKey = Annotated[Caller, Depends(_caller)]
AdminKey = Annotated[Caller, Depends(_admin)]

public = APIRouter(prefix="/api/v1")
router = APIRouter(prefix="/api/v1", dependencies=[Depends(_given_once)])
_link = {"Link": {"description": "`rel=next`: the next page (RFC 8288). Not there on the last", "schema": {"type": "string"}}}


def _responses(*statuses: int, paged: bool = True) -> dict[int | str, dict[str, Any]]:
    return {**({200: {"headers": _link}} if paged else {}), **problems.responses(*statuses)}


@public.get("/health", responses=_responses(503, paged=False))
def health(request: Request) -> Health:
    """Whether the server can answer: the database is there, and its schema is the one that this server knows. Needs no key."""
    with reading.transaction(request.app.state.engine) as conn:
        present, expected = revisions(conn)
    if present != expected:
        raise HTTPException(503, f"the ledger's schema is of revision {present}, this server is made for {expected}; start it anew")
    return Health(status="ok", schema_revision=present)


@router.get("/inventory", responses=_responses(400, 401, 403, 503))
def inventory(caller: AnyKey, query: Annotated[InventoryQuery, Query()], request: Request, response: Response) -> InventoryPage:
    """What exists and existed, gone things included: ask for `state=active` to have those that are there now. Projects are not in it."""
    pages = Pages(request, response, query, InventoryKey)
    after = pages.after or InventoryKey(resource_id=0)
    with caller.reading() as conn:
        rows = reading.inventory(conn, query.filters(), after=after.resource_id, limit=pages.fetch)
    items, following = pages.cut(rows)
    return InventoryPage.model_validate({"items": items, "next": following})


@router.get("/resources/{resource_id}/timeline", responses=_responses(400, 401, 403, 404, 503))
def timeline(
    caller: AnyKey,
    resource_id: Annotated[ResourceId, Path(description="As in the inventory")],
    query: Annotated[Paged, Query()],
    request: Request,
    response: Response,
) -> TimelinePage:
    """What happened to one resource: created, changed, billed, gone."""
    pages = Pages(request, response, query, EntryKey)
    after = pages.after or EntryKey(at=datetime(1, 1, 1, tzinfo=UTC), what="", digest="", copy_number=0)
    with caller.reading() as conn:
        resource = reading.resource(conn, resource_id)
        if resource is None:
            raise HTTPException(404, problems.DETAILS[404])
        rows = reading.timeline(conn, resource_id, after=after.model_dump(), limit=pages.fetch)
    items, following = pages.cut(rows)
    return TimelinePage.model_validate({"resource": dict(resource), "items": items, "next": following})


@router.get("/billing/balance", responses=_responses(400, 401, 403, 503, paged=False))
def balance(caller: AdminKey, query: Annotated[OfAccount, Query()]) -> Balances:
    """The newest balance of each account. For admins only."""
    with caller.reading() as conn:
        rows = reading.balances(conn, query.filters())
    return Balances.model_validate({"items": [dict(row) for row in rows]})


@router.get("/billing/cost-lines", responses=_responses(400, 401, 403, 503))
def cost_lines(caller: AdminKey, query: Annotated[CostLinesQuery, Query()], request: Request, response: Response) -> CostLinesPage:
    """The lines of closed invoices and what each pays for; the month that is not over is not in it. For admins only."""
    pages = Pages(request, response, query, LineKey)
    after = pages.after or LineKey(period=date.min, invoice_uuid="", ordinal=0)
    with caller.reading() as conn:
        rows = reading.cost_lines(conn, query.filters(), after=after.model_dump(), limit=pages.fetch)
    items, following = pages.cut(rows)
    return CostLinesPage.model_validate({"items": items, "next": following})


def create_app(engine: Engine) -> FastAPI:
    """The application on the ledger of this engine, whose user must own the keys and may become their roles."""
    app = FastAPI(
        title="arcadia-dagster",
        summary="Read API of a ledger of DigitalOcean accounts",
        description=_DESCRIPTION,
        version="1",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.engine = engine
    app.include_router(public)
    app.include_router(router)
    problems.install(app)
    document = _document(app)
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with our problems in place of FastAPI's own. No parameter is null, which could not be sent, but empty."""
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes)
    for path in document["paths"].values():
        path["get"]["responses"].pop("422", None)
        for parameter in path["get"].get("parameters", []):
            for schema in parameter["schema"].pop("anyOf", []):
                parameter["schema"] |= schema if schema != {"type": "null"} else {}
            if parameter["in"] == "query":
                parameter["allowEmptyValue"] = True
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = problems.Problem.model_json_schema()
    return document


def server(engine: Engine) -> uvicorn.Server:
    """A server of the application; `run(sockets=[...])` serves until a signal ends it, and lets requests come to their end."""
    config = uvicorn.Config(
        create_app(engine),
        log_config=None,  # what is logged where is the command's to say
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2 * reading.STATEMENT_SECONDS,
    )
    return uvicorn.Server(config)
