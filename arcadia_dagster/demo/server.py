"""A simulated DigitalOcean API v2 over HTTP on loopback: the provider's shapes, paging, authentication, limits, errors.

Belongs here: how the state of an account is served. Does not belong here: what an account holds (account.py,
sky_ai.py); the server changes nothing of it but the projects that a client creates.
"""

import errno
import math
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import SimulatedAccount, SimulatedInvoice
from arcadia_dagster.demo.items import Item

_PRODUCTION = "https://api.digitalocean.com"  # where the addresses in `links` lead, whatever host was asked
_MAX_PER_PAGE = 200
_MESSAGES = {
    "unauthorized": (401, "Unable to authenticate you."),
    "forbidden": (403, "You do not have permission to perform this action."),
    "not_found": (404, "The resource you requested could not be found."),
    "too_many_requests": (429, "API rate limit exceeded."),
}


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """Ends a request with an error body."""

    def __init__(self, error: str, *, status: int = 0, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        default_status, default_message = _MESSAGES.get(error, (400, ""))
        self.error = error
        self.status = status or default_status
        self.message = message or default_message
        self.headers = headers or {}


@dataclass
class _Spent:
    """When a token's requests of the last hour were made, oldest first (seconds since the epoch)."""

    times: deque[float] = field(default_factory=deque)
    special: dict[str, deque[float]] = field(default_factory=dict)

    def take(self, limit: int) -> dict[str, str]:
        """Counts a request and returns the rate-limit headers; raises _Refused when the hour or the minute is spent.

        The hour slides: each request is forgotten an hour after it was made, and `ratelimit-reset` is when the oldest
        will be. Only the refusal of a burst carries `retry-after` (API reference, "Rate Limit").
        """
        now = time.time()
        times = self.times
        while times and times[0] <= now - _HOUR:
            times.popleft()
        headers = {
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(max(limit - len(times) - 1, 0)),
            "ratelimit-reset": str(math.ceil((times[0] if times else now) + _HOUR)),
        }
        if len(times) >= limit:
            raise _Refused("too_many_requests", headers=headers)
        burst = max(limit // 20, 1)
        if len(times) >= burst and times[-burst] > now - _MINUTE:
            wait = str(math.ceil(times[-burst] + _MINUTE - now))
            raise _Refused("too_many_requests", headers=headers | {"retry-after": wait})
        times.append(now)
        return headers

    def take_special(self, path: str) -> None:
        """Counts a request of a list with a limit of its own; raises _Refused when that is spent."""
        now = time.time()
        for prefix, limit, seconds in _SPECIAL_LIMITS:
            if path.startswith(prefix):
                times = self.special.setdefault(prefix, deque(maxlen=limit))
                if len(times) == limit and times[0] > now - seconds:
                    raise _Refused("too_many_requests", headers={"retry-after": str(math.ceil(times[0] + seconds - now))})
                times.append(now)


# Limits of single lists, beside the general one: path prefix, requests, in so many seconds ("Rate Limit").
_SPECIAL_LIMITS = (("/v2/account/keys", 10, 60), ("/v2/cdn/endpoints", 5, 10))

_MINUTE, _HOUR = 60.0, 3600.0  # seconds; of the general limits, which tests need not wait for

_Answer = Callable[[SimulatedAccount, Request], Item | Response]


class SimulatedServer:
    """Serves accounts, told apart by their token, from a thread of its own while the context is open.

    `accounts`: their state is read at every request. `port` 0 takes a free one. `url` is the base address, without
    `/v2`. `requests` is the log: (method, path, query) of every request in order, refused ones included; `answers` has the time
    (seconds since the epoch) and the status of every reply.
    """

    def __init__(self, accounts: Sequence[SimulatedAccount], *, port: int = 0, host: str = "127.0.0.1") -> None:
        self.accounts = list(accounts)
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.answers: list[tuple[float, int]] = []
        self._host, self._port = host, port
        self._spent: dict[str, _Spent] = {}
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """`http://HOST:PORT`; the port is known once the server has started."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> Self:
        """Returns once requests are answered. Raises OSError when the address is in use or not this machine's."""
        # asyncio switches Nagle's delay off (40 ms on every reply) only for sockets that say that they are TCP.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            why = "the port is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
            raise OSError(error.errno, f"cannot serve the simulated account on {self._host}:{self._port}: {why}") from error
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app(),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="simulated-digitalocean", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError(f"the simulated account on {self.url} ended as soon as it was started")
            time.sleep(0.001)
        return self

    def stop(self) -> None:
        """Closes the port and every connection, and ends the thread. Does nothing if the server does not run."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _app(self) -> Starlette:
        # Every kind that is listed in pages: path -> (key in the reply, items).
        lists: dict[str, tuple[str, Callable[[SimulatedAccount, Request], list[Item]]]] = {
            "/v2/projects": ("projects", lambda account, _: account.projects),
            "/v2/projects/{project}/resources": ("resources", _project_resources),
            "/v2/droplets": ("droplets", _droplets),
            "/v2/droplets/{droplet:int}/backups": ("backups", _droplet_backups),
            "/v2/droplets/{droplet:int}/snapshots": ("snapshots", _droplet_snapshots),
            "/v2/images": ("images", _images),
            "/v2/snapshots": ("snapshots", _snapshots),
            "/v2/volumes": ("volumes", lambda account, _: account.volumes),
            "/v2/reserved_ips": ("reserved_ips", lambda account, _: account.reserved_ips),
            "/v2/floating_ips": ("floating_ips", lambda account, _: account.reserved_ips),
            "/v2/firewalls": ("firewalls", lambda account, _: account.firewalls),
            "/v2/load_balancers": ("load_balancers", lambda account, _: account.load_balancers),
            "/v2/domains": ("domains", lambda account, _: account.domains),
            "/v2/apps": ("apps", lambda account, _: account.apps),
            "/v2/kubernetes/clusters": ("kubernetes_clusters", lambda account, _: account.kubernetes_clusters),
            "/v2/regions": ("regions", lambda *_: [items.region(slug) for slug in items.REGIONS]),
            "/v2/spaces/keys": ("keys", lambda account, _: account.spaces_keys),
            "/v2/cdn/endpoints": ("endpoints", lambda account, _: account.cdn_endpoints),
            "/v2/certificates": ("certificates", lambda account, _: account.certificates),
            "/v2/vpcs": ("vpcs", lambda account, _: account.vpcs),
            "/v2/vpc_peerings": ("vpc_peerings", lambda account, _: account.vpc_peerings),
            "/v2/vpc_nat_gateways": ("vpc_nat_gateways", lambda account, _: account.nat_gateways),
            "/v2/droplets/autoscale": ("autoscale_pools", lambda account, _: account.autoscale_pools),
            "/v2/droplets/autoscale/{pool}/members": ("droplets", _autoscale_members),
            "/v2/reserved_ipv6": ("reserved_ipv6s", lambda account, _: account.reserved_ipv6s),
            "/v2/uptime/checks": ("checks", lambda account, _: account.uptime_checks),
            "/v2/monitoring/alerts": ("policies", lambda account, _: account.alert_policies),
            "/v2/dedicated-inferences": ("dedicated_inferences", lambda account, _: account.dedicated_inferences),
            "/v2/account/keys": ("ssh_keys", lambda account, _: account.ssh_keys),
            "/v2/tags": ("tags", lambda account, _: account.tags),
            "/v2/partner_network_connect/attachments": ("partner_attachments", lambda account, _: account.partner_attachments),
            "/v2/byoip_prefixes": ("byoip_prefixes", lambda account, _: account.byoip_prefixes),
            "/v2/customers/my/billing_history": ("billing_history", lambda account, _: account.billing_history),
            "/v2/customers/my/invoices/{invoice}": ("invoice_items", lambda *asked: _invoice(*asked).items),
        }
        single: dict[str, _Answer] = {
            "/v2/account": lambda account, _: {"account": account.user()},
            # The lists without pages, and those that page in ways of their own.
            "/v2/databases": lambda account, _: {"databases": account.databases},
            "/v2/databases/{database}/replicas": _replicas,
            "/v2/functions/namespaces": lambda account, _: {"namespaces": account.function_namespaces},
            "/v2/registries": lambda account, _: {"registries": account.registries},
            "/v2/add-ons/saas": lambda account, _: {"resources": account.addons},
            "/v2/nfs": lambda account, request: {"shares": _of_region(account.nfs_shares, request)},
            "/v2/nfs/snapshots": lambda account, request: {"snapshots": _of_region(account.nfs_snapshots, request)},
            "/v2/vector-databases": lambda account, request: _with_total(request, "vector_dbs", account.vector_databases),
            "/v2/gen-ai/agents": lambda account, request: _genai_page(request, "agents", account.genai_agents),
            "/v2/gen-ai/knowledge_bases": lambda account, request: _genai_page(request, "knowledge_bases", account.genai_knowledge_bases),
            "/v2/images/{image:int}": _image,
            "/v2/customers/my/balance": lambda account, _: account.balance,
            "/v2/customers/my/invoices": _invoices,
            "/v2/customers/my/invoices/{invoice}/csv": _invoice_csv,
            "/v2/customers/my/invoices/{invoice}/summary": lambda *asked: _invoice(*asked).summary(),
        }
        routes = [Route("/v2/projects", self._endpoint(_create_project), methods=["POST"])]
        routes += [Route(path, self._endpoint(_paged(key, read)), methods=["GET"]) for path, (key, read) in lists.items()]
        routes += [Route(path, self._endpoint(answer), methods=["GET"]) for path, answer in single.items()]
        every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        routes.append(Route("/{path:path}", self._endpoint(_unknown), methods=every))
        return Starlette(routes=routes)

    def _endpoint(self, answer: _Answer) -> Callable[[Request], Any]:
        """The part that every request has in common: log, token, limits, permission, errors, headers."""

        async def endpoint(request: Request) -> Response:
            self.requests.append((request.method, request.url.path, dict(request.query_params)))
            headers = {"x-request-id": str(uuid.uuid4())}
            try:
                account = self._account(request)
                spent, path = self._spent.setdefault(account.token, _Spent()), request.url.path
                headers |= spent.take(account.ratelimit_limit)
                spent.take_special(path)
                if any(path == denied or path.startswith(f"{denied.rstrip('/')}/") for denied in account.denied):
                    raise _Refused("forbidden")
                request.state.body = await request.body()
                body = answer(account, request)
                response = body if isinstance(body, Response) else _json(body)
            except _Refused as refused:
                headers |= refused.headers
                error = {"id": refused.error, "message": refused.message, "request_id": headers["x-request-id"]}
                response = _json(error, refused.status)
            response.headers.update(headers)
            self.answers.append((time.time(), response.status_code))
            return response

        return endpoint

    def _account(self, request: Request) -> SimulatedAccount:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        for account in self.accounts:
            if scheme.lower() == "bearer" and token == account.token:
                return account
        raise _Refused("unauthorized")


def _json(body: Item, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _unknown(_: SimulatedAccount, __: Request) -> Item:
    raise _Refused("not_found")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdecimal() or not int(text):
        raise _Refused("bad_request", message=f"{name} must be a positive number")
    return int(text)


def _paged(key: str, read: Callable[[SimulatedAccount, Request], list[Item]]) -> _Answer:
    return lambda account, request: _page(request, key, read(account, request))


def _page(request: Request, key: str, everything: Sequence[Item]) -> Item:
    """One page of a list, as the reference describes it ("Links & Pagination"): 20 items unless told, at most 200.

    More than 200 is refused: the OpenAPI gives 200 as the maximum, and an endpoint that was asked for more than it
    allows said "400 cannot retrieve more than N items per page" (digitalocean/doctl#976).
    """
    page, per_page = _number(request, "page", 1), _number(request, "per_page", 20)
    if per_page > _MAX_PER_PAGE:
        raise _Refused("bad_request", message=f"cannot retrieve more than {_MAX_PER_PAGE} items per page")
    last = max(math.ceil(len(everything) / per_page), 1)

    def address(number: int) -> str:
        return f"{_PRODUCTION}{request.url.path}?{urlencode({**request.query_params, 'page': number})}"

    pages: dict[str, str] = {}
    if page > 1:
        pages |= {"first": address(1), "prev": address(page - 1)}
    if page < last:
        pages |= {"next": address(page + 1), "last": address(last)}
    return {
        key: everything[(page - 1) * per_page : page * per_page],
        "links": {"pages": pages} if pages else {},
        "meta": {"total": len(everything)},
    }


def _with_total(request: Request, key: str, everything: Sequence[Item]) -> Item:
    """A page that says no more of the others than how many items there are in all."""
    page = _page(request, key, everything)
    return {key: page[key], "total": len(everything)}


def _genai_page(request: Request, key: str, everything: Sequence[Item]) -> Item:
    """A page as the GenAI part of the API cuts it."""
    page, per_page = _number(request, "page", 1), _number(request, "per_page", 20)
    pages = math.ceil(len(everything) / per_page)
    return {
        key: everything[(page - 1) * per_page : page * per_page],
        "links": {"pages": {"next": f"{_PRODUCTION}{request.url.path}?page={page + 1}"} if page < pages else {}},
        "meta": {"page": page, "pages": pages, "total": len(everything)},
    }


def _of_region(everything: Sequence[Item], request: Request) -> list[Item]:
    """NFS is listed region by region."""
    region = request.query_params.get("region")
    if region not in items.REGIONS:
        raise _Refused("bad_request", message="region is required")
    return [item for item in everything if item["region"] == region]


def _replicas(account: SimulatedAccount, request: Request) -> Item:
    asked = request.path_params["database"]
    if not any(database["id"] == asked for database in account.databases):
        raise _Refused("not_found")
    return {"replicas": account.database_replicas.get(asked, [])}


def _autoscale_members(account: SimulatedAccount, request: Request) -> list[Item]:
    asked = request.path_params["pool"]
    if not any(pool["id"] == asked for pool in account.autoscale_pools):
        raise _Refused("not_found")
    return account.autoscale_members.get(asked, [])


def _droplets(account: SimulatedAccount, request: Request) -> list[Item]:
    """GPU droplets are listed with `type=gpus` and only then."""
    kind = request.query_params.get("type", "droplets")
    if kind not in {"droplets", "gpus"}:
        raise _Refused("bad_request", message="type must be droplets or gpus")
    return [droplet for droplet in account.droplets if ("gpu_info" in droplet) == (kind == "gpus")]


def _droplet_id(account: SimulatedAccount, request: Request) -> int:
    droplet_id: int = request.path_params["droplet"]
    if not any(droplet["id"] == droplet_id for droplet in account.droplets):
        raise _Refused("not_found")
    return droplet_id


def _droplet_backups(account: SimulatedAccount, request: Request) -> list[Item]:
    return account.backups.get(_droplet_id(account, request), [])


def _droplet_snapshots(account: SimulatedAccount, request: Request) -> list[Item]:
    droplet_id = str(_droplet_id(account, request))
    ids = {int(item["id"]) for item in account.snapshots if item["resource_id"] == droplet_id and item["id"].isdecimal()}
    fields = ("id", "name", "created_at", "regions", "min_disk_size", "size_gigabytes", "type")
    return [{key: image[key] for key in fields} for image in account.images() if image["id"] in ids]


def _images(account: SimulatedAccount, request: Request) -> list[Item]:
    """The account's own images; without `private=true`, also the public ones that its droplets were made from."""
    own = account.images()
    if request.query_params.get("private") == "true":
        return own
    public = {droplet["image"]["id"]: droplet["image"] for droplet in account.droplets if droplet["image"]["public"]}
    return [*public.values(), *own]


def _image(account: SimulatedAccount, request: Request) -> Item:
    for image in _images(account, request):
        if image["id"] == request.path_params["image"]:
            return {"image": image}
    raise _Refused("not_found")


def _snapshots(account: SimulatedAccount, request: Request) -> list[Item]:
    kind = request.query_params.get("resource_type")
    if kind not in {None, "droplet", "volume"}:
        raise _Refused("bad_request", message="resource_type must be droplet or volume")
    return [item for item in account.snapshots if kind is None or item["resource_type"] == kind]


def _project_resources(account: SimulatedAccount, request: Request) -> list[Item]:
    asked = request.path_params["project"]
    for project in account.projects:
        if project["id"] == asked or (asked == "default" and project["is_default"]):
            return account.project_resources.get(project["id"], [])
    raise _Refused("not_found")


def _create_project(account: SimulatedAccount, request: Request) -> Response:
    if not account.may_create_projects:
        raise _Refused("forbidden")
    try:
        wanted = msgspec.json.decode(request.state.body)
        name, purpose = str(wanted["name"]), str(wanted["purpose"])
    except (msgspec.DecodeError, KeyError, TypeError):
        raise _Refused("bad_request", message="name and purpose are required") from None
    if any(project["name"] == name for project in account.projects):
        raise _Refused("conflict", status=409, message="name is already in use")
    project = items.project(
        # The same each time: a simulated account made anew is the same account to whoever has it in a ledger.
        str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{account.team_uuid}")),
        name,
        created_at="2026-05-12T06:00:00Z",
        description=str(wanted.get("description") or ""),
        purpose=purpose,
        environment=str(wanted.get("environment") or "Development"),
    )
    account.projects.append(project)
    return _json({"project": project}, 201)


def _invoice(account: SimulatedAccount, request: Request) -> SimulatedInvoice:
    asked = request.path_params["invoice"]
    if asked == "preview" and account.preview is not None:
        return account.preview
    for invoice in account.invoices:
        if invoice.uuid == asked:
            return invoice
    raise _Refused("not_found")


def _invoices(account: SimulatedAccount, request: Request) -> Item:
    reply = _page(request, "invoices", [invoice.listing() for invoice in account.invoices])
    return reply if account.preview is None else reply | {"invoice_preview": account.preview.listing()}


def _invoice_csv(account: SimulatedAccount, request: Request) -> Response:
    invoice = _invoice(account, request)
    name = f'attachment; filename="{account.team_name}-{invoice.invoice_id}-{invoice.period}.csv"'
    return Response(invoice.csv(), media_type="text/csv", headers={"content-disposition": name})
