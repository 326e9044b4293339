"""An account made up from a seed, over twelve months: what it held at any moment, and invoices of which each line's truth is known.

Belongs here: what exists and changes, what the API would list of it, what the provider would bill for it and how that reads. Does not
belong here: the ledger, or any rule of how a line is led back to its resource.
"""

import csv
import io
import itertools
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from arcadia_dagster.demo import items
from arcadia_dagster.demo.rules import cents, hours_between, iso, next_month, prorated
from arcadia_dagster.digitalocean.kinds import KINDS, Resource

MONTHS = [datetime(2025 + (month + 4) // 12, (month + 4) % 12 + 1, 1, tzinfo=UTC) for month in range(12)]  # May 2025 to April 2026
END = datetime(2026, 5, 1, tzinfo=UTC)
INGESTED_AFTER = timedelta(days=2)  # an invoice is read this long after the month that it bills
HORIZON = END + INGESTED_AFTER
STILL_THERE = datetime(9999, 1, 1, tzinfo=UTC)

# How many of each: what a real account has most of is what shares names most.
_WEIGHTS = {
    "droplet": 34, "snapshot": 14, "volume": 10, "managed_db": 7, "load_balancer": 6, "reserved_ip": 6, "app": 5, "k8s_cluster": 3,
    "function_namespace": 3, "nfs_share": 3, "nat_gateway": 3, "reserved_ipv6": 2, "dedicated_inference": 1, "vector_database": 1,
    "addon": 1,
}  # fmt: skip
_IPS = ("reserved_ip", "reserved_ipv6")

# Shared by everything, so that names are borne by several things at once and one after the other. Some are alike but for case or white
# space; some look as if they ended in the size, the region or the service that the provider prints behind a name.
_SHARED_NAMES = (
    "web", "Web", "WEB-1", "web-1", "db (old)", "worker, spare", "büro-ß", "BÜRO-SS", "データ", 'say "hi"', "a  b", "A b",
    "backup (s-1vcpu-1gb)", "disk (fra1) 100GB", "pg (Weekly Backup Services)", "3 nodes",
)  # fmt: skip
_REGIONS = ("fra1", "nyc3", "blr1")
_PROJECTS = ("Showcase", "data", "Web, shop")
_STATES = {
    "droplet": (*["s-1vcpu-1gb"] * 6, *["s-1vcpu-2gb"] * 4, "s-2vcpu-4gb", "c-2", "c-4", "gpu-h100x1-80gb"),
    "volume": ("10", "100", "250"),
    "snapshot": ("4.2", "10.15", "2.72"),
    "load_balancer": ("1", "2", "3"),
    "managed_db": ("db-s-1vcpu-1gb", "db-s-2vcpu-4gb"),
    "k8s_cluster": ("1", "2", "3"),
    "app": ("web", "web,worker", "site,worker"),
    "nfs_share": ("100", "500"),
    "nat_gateway": ("1", "2"),
    "dedicated_inference": ("gpu-h100x1-80gb",),
    "vector_database": ("small", "medium"),
    "addon": ("starter", "pro"),
}  # of what a thing can be: its size, an app's components, how many nodes a cluster has. None: "", always
_STATE_FIELDS = {
    "droplet": "size_slug",
    "volume": "size_gigabytes",
    "snapshot": "size_gigabytes",
    "load_balancer": "size_unit",
    "managed_db": "size",
    "nfs_share": "size_gib",
    "nat_gateway": "size",
    "vector_database": "size",
    "addon": "plan_slug",
    "reserved_ip": "droplet.id",
    "reserved_ipv6": "droplet.id",
}
_RESIZED = ("droplet", "volume", "load_balancer", "managed_db", "k8s_cluster", "app", "nfs_share", "vector_database", "addon")
_PRINTED_SIZE = {"c-2": "c-2-4GiB", "c-4": "c-4-8GiB"}  # seen printed otherwise than the API writes it
_NODE_SIZE = "s-2vcpu-4gb"
_WORDINGS = {
    "droplet": ("Droplets", "{name} ({size})"),
    "volume": ("Volumes", "{name} ({region}) {size}GB"),
    "load_balancer": ("Load Balancers", "{name}"),
    "reserved_ip": ("Floating IPs", "Unused Floating IP - {name}"),
    "reserved_ipv6": ("Floating IPs", "Unused Floating IP - {name}"),
    "function_namespace": ("Functions", "{name}"),
    "nfs_share": ("Network File Storage", "{name} ({region}) {size}GiB"),
    "nat_gateway": ("VPC NAT Gateways", "{name} ({region})"),
    "dedicated_inference": ("Dedicated Inference", "{name} ({size})"),
    "vector_database": ("Vector Databases", "{name} ({size})"),
    "addon": ("Add-Ons", "{name} ({size})"),
}  # of one line for each thing; the others are written in _charges


def _price(kind: str, state: str, at: datetime) -> Decimal:
    """USD a month, of GPUs an hour, of a thing of that kind and state, or of one node or component of it."""
    if state.startswith("gpu-"):
        return Decimal("3.39")
    if kind == "droplet":
        return items.monthly_price(state, at)
    if kind == "k8s_cluster":
        return items.monthly_price(_NODE_SIZE, at) * int(state)
    each = {
        "volume": "0.10", "snapshot": "0.06", "load_balancer": "12", "nat_gateway": "40", "nfs_share": "0.15", "app": "12",
        "managed_db": "60.90", "reserved_ip": "5", "reserved_ipv6": "5", "function_namespace": "0.42", "vector_database": "25",
        "addon": "20",
    }  # fmt: skip
    return Decimal(each[kind]) * (Decimal(state) if state.replace(".", "").isdigit() else 1)


Values = list[tuple[datetime, str]]  # each from its moment on; what stands first held before as well


def _at(values: Values, moment: datetime) -> str:
    return next((value for since, value in reversed(values) if since <= moment), values[0][1])


@dataclass(eq=False, kw_only=True)
class Thing:
    """A resource as it really was. `lives` is one span, and several for an address that was given back and taken again."""

    kind: str
    provider_id: str
    region: str
    lives: list[tuple[datetime, datetime]]
    names: Values
    states: Values
    projects: Values
    backups: str | None = None
    parent: "Thing | None" = None  # of a snapshot
    cluster: "Thing | None" = None  # that made it
    _listed: dict[tuple[str, str, str], Resource] = field(default_factory=dict)

    @property
    def born(self) -> datetime:
        return self.lives[0][0]

    @property
    def died(self) -> datetime:
        """STILL_THERE if it has not."""
        return self.lives[-1][1]

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.provider_id

    def name_at(self, moment: datetime) -> str:
        return _at(self.names, moment)

    def lived(self, moment: datetime) -> bool:
        return any(first <= moment < last for first, last in self.lives)

    def changes(self) -> Iterator[tuple[datetime, bool]]:
        """Each moment that a listing could show to differ from what was before, and whether the thing was gone then."""
        for first, last in self.lives:
            yield first, False
            yield last, True
        for since, _ in itertools.chain(self.names[1:], self.states[1:], self.projects[1:]):
            yield since, False

    def listed(self, moment: datetime) -> Resource:
        """What the ledger keeps of the API's item of it at the moment."""
        now = self.name_at(moment), _at(self.states, moment), _at(self.projects, moment)
        if now not in self._listed:
            self._listed[now] = KINDS[self.kind].read(self._item(*now))
        return self._listed[now]

    def _item(self, name: str, state: str, project: str) -> dict[str, Any]:
        kind = KINDS[self.kind]
        item: dict[str, Any] = {}
        tags = ["k8s", f"k8s:{self.cluster.provider_id}"] if self.cluster else []
        fields: dict[str | None, Any] = {
            kind.id: self.provider_id,
            kind.label: name,
            kind.region: self.region.split(",") if kind.region == "regions" else self.region,
            kind.created: iso(self.born),
            kind.project_id: project,
            kind.tags: tags[-1] if kind.tags == "tag" and tags else tags,
            _STATE_FIELDS.get(self.kind): int(state) if state.isdigit() else Decimal(state) if self.kind == "snapshot" else state,
        }
        for path, value in fields.items():
            if path is not None:
                *outer, last = path.split(".")
                inner = item
                for step in outer:
                    inner = inner.setdefault(step, {})
                inner[last] = value
        if self.kind == "k8s_cluster":
            item |= {"ha": True, "node_pools": [{"id": f"pool-{self.provider_id}", "size": _NODE_SIZE, "count": int(state)}]}
        elif self.kind == "app":
            item["spec"] |= {"services": [{"name": component} for component in state.split(",")]}
        elif self.parent is not None:
            item |= {"resource_type": self.parent.kind, "resource_id": self.parent.provider_id}
        return item

    def __str__(self) -> str:
        lives = ", ".join(
            f"{first:%Y-%m-%d %H:%M:%S} to {'now' if last == STILL_THERE else f'{last:%Y-%m-%d %H:%M:%S}'}" for first, last in self.lives
        )
        names, states = (
            " then ".join([repr(values[0][1]), *(f"{value!r} ({since:%Y-%m-%d %H:%M:%S})" for since, value in values[1:])])
            for values in (self.names, self.states)
        )
        made = f", of cluster {self.cluster.provider_id}" if self.cluster else ""
        return f"{self.kind} {self.provider_id} in {self.region}, {lives}: {names}; {states}{made}"


@dataclass(frozen=True)
class Line:
    """One item of an invoice as the API sends it, and what it really pays for: a thing, or what its status must be without one."""

    item: dict[str, Any]
    truth: Thing | None
    status: str = "matched"


@dataclass(frozen=True)
class Invoice:
    """A month's lines in the order of both documents."""

    month: datetime
    lines: list[Line]

    @property
    def amount(self) -> Decimal:
        return sum((Decimal(line.item["amount"]) for line in self.lines), Decimal(0))

    @property
    def items(self) -> list[dict[str, Any]]:
        return [line.item for line in self.lines]

    def csv(self) -> bytes:
        """The printed document: the same lines without any id."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["product", "group_description", "description", "hours", "start", "end", "USD", "project_name", "category"])
        for item in self.items:
            times = [item[name].replace("T", " ").replace("Z", " +0000") for name in ("start_time", "end_time")]
            amount = Decimal(item["amount"])
            writer.writerow(
                [
                    *(item[name] for name in ("product", "group_description", "description", "duration")),
                    *times,
                    f"{'-' if amount < 0 else ''}${abs(amount):,.2f}",
                    item["project_name"],
                    item["category"],
                ]
            )
        return out.getvalue().encode()


class GeneratedAccount:
    """The account of a seed: `count` things or a few more, as a cluster comes with what it made.

    What nobody has documented is taken from the seed: whether a line shows the name that a thing bore when the line ends or when the
    invoice is made, whether items carry a uuid beside the number, how often the account is listed.
    """

    def __init__(self, seed: int, count: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.things: list[Thing] = []
        self.name_when_invoiced = self.random.random() < 0.5
        self.both_ids = self.random.random() < 0.5
        self.listed_every = self.random.choice((timedelta(days=1), timedelta(hours=6), timedelta(minutes=15)))
        self.balancer_group = self.random.choice(("", "HTTP Load Balancers"))
        self._numbers = {kind: itertools.count(1001) for kind in (*_WEIGHTS, "name")}  # a droplet and a snapshot can bear one number
        kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
        while len(self.things) < count:
            self._add(self.random.choices(kinds, weights)[0])

    # What exists

    def _add(self, kind: str) -> None:
        """Something new: by itself, in the place of what was destroyed, or beside what is renamed to make way for it."""
        if kind in _IPS:
            self._add_ip(kind)
            return
        born = self._moment(MONTHS[0] - timedelta(days=200), END - timedelta(days=20))
        thing = self._thing(kind, born, self._end(born), self._name())
        before = self.random.choice([other for other in self.things if other.kind == kind and not other.cluster] or [None])
        chance = self.random.random()
        if before and before.died < END - timedelta(days=5) and chance < 0.6:
            self._recreate(thing, before)
        elif before and before.died == STILL_THERE and chance < 0.2:
            self._make_way(thing, before)
        elif before and kind == "droplet" and before.died == STILL_THERE and chance < 0.3:
            self._swap_sizes(thing, before)
        elif self.random.random() < 0.2:
            thing.names.append((self._within(thing), self._name()))
            if self.random.random() < 0.2:
                thing.names.append((self._moment(thing.names[-1][0], thing.names[-1][0] + timedelta(days=3)), thing.names[0][1]))
        if kind in _RESIZED and len(thing.states) == 1 and self.random.random() < 0.2:
            thing.states.append((self._within(thing), self.random.choice(_STATES[kind])))
            if thing.states[-1][1] == thing.states[0][1]:
                thing.states.pop()
        if self.random.random() < 0.15:
            thing.projects.append((self._within(thing), self.random.choice(_PROJECTS)))
        self._settle(thing)
        self.things.append(thing)
        if kind == "k8s_cluster":
            self._add_made(thing)

    def _thing(self, kind: str, born: datetime, died: datetime, name: str) -> Thing:
        parent = None
        if kind == "snapshot":
            parents = [other for other in self.things if other.kind in ("droplet", "volume") and other.lived(born)]
            parent = self.random.choice(parents) if parents else None
            if parent is not None and self.random.random() < 0.7:
                name = parent.name_at(born)
                if self.random.random() < 0.7:  # the default
                    name += f"-{int(born.timestamp() * 1000)}"
        numbered = kind == "droplet" or (kind == "snapshot" and (parent is None or parent.kind == "droplet"))
        regions = parent.region if parent else self.random.choice(_REGIONS)
        return Thing(
            kind=kind,
            provider_id=str(next(self._numbers[kind])) if numbered else self._uuid(),
            region=f"{regions},sgp1" if kind == "snapshot" and self.random.random() < 0.1 else regions,
            lives=[(born, died)],
            names=[(born, name)],
            states=[(born, self.random.choice(_STATES.get(kind, ("",))))],
            projects=[(born, self.random.choice(_PROJECTS))],
            backups=self.random.choice(("Weekly", "Weekly", "Daily")) if kind == "droplet" and self.random.random() < 0.3 else None,
            parent=parent,
        )

    def _recreate(self, thing: Thing, before: Thing) -> None:
        """In the place of `before`: seconds to days after it, under its last name and mostly of its size."""
        born = before.died + self.random.choice((timedelta(seconds=5), timedelta(minutes=10), timedelta(hours=25), timedelta(days=4)))
        thing.lives = [(born, self._end(born) if self.random.random() < 0.5 else STILL_THERE)]
        thing.names = [(born, before.names[-1][1])]
        thing.states = [(born, before.states[-1][1] if self.random.random() < 0.7 else thing.states[0][1])]
        thing.projects = [(born, before.projects[-1][1])]
        thing.region = before.region

    def _make_way(self, thing: Thing, before: Thing) -> None:
        """`before` gets another name, and its own goes to the new thing."""
        since = self._within(before)
        name = before.name_at(since)
        before.names = [*((when, old) for when, old in before.names if when < since), (since, f"{name}-old")]
        born = since + self.random.choice((timedelta(seconds=40), timedelta(hours=5)))
        thing.lives, thing.names = [(born, STILL_THERE)], [(born, name)]
        thing.states, thing.projects = [(born, thing.states[0][1])], [(born, thing.projects[0][1])]
        thing.region = before.region

    def _swap_sizes(self, thing: Thing, other: Thing) -> None:
        """Both bear one name, and each is resized to what the other was before."""
        first, second = "s-1vcpu-1gb", "s-1vcpu-2gb"
        thing.names, thing.region = [(thing.born, other.names[0][1])], other.region
        thing.states = [(thing.born, first), (self._within(thing), second)]
        other.states = [(other.born, second), (self._within(other), first)]

    def _settle(self, thing: Thing) -> None:
        for values in (thing.names, thing.states, thing.projects):
            values[1:] = [(since, value) for since, value in values[1:] if thing.born < since < thing.died]

    def _add_ip(self, kind: str) -> None:
        """An address. Its state is the droplet that it is assigned to, or ""; it can be given back and be taken again."""
        number = next(self._numbers[kind])
        ip = f"45.55.{number // 250}.{number % 250}" if kind == "reserved_ip" else f"2604:a880:800:14::42c3:{number:x}"
        born = self._moment(MONTHS[0] - timedelta(days=100), END - timedelta(days=20))
        thing = Thing(
            kind=kind,
            provider_id=ip,
            region=self.random.choice(_REGIONS),
            lives=[],
            names=[(born, ip)],
            states=[],
            projects=[(born, self.random.choice(_PROJECTS))],
        )
        while born < END - timedelta(days=5):
            died = self._end(born)
            thing.lives.append((born, died))
            free = self.random.random() < 0.5
            moments = sorted(self._moment(born, min(died, END)) for _ in range(self.random.randrange(4)))
            for since in (born, *moments):
                thing.states.append((since, "" if free else str(1000 + self.random.randrange(1, 40))))
                free = not free
            if died == STILL_THERE or self.random.random() < 0.4:
                break
            born = died + self.random.choice((timedelta(minutes=2), timedelta(days=3), timedelta(days=40)))
        self.things.append(thing)

    def _add_made(self, cluster: Thing) -> None:
        """What a Kubernetes cluster makes: nodes, of which droplets tell, claimed volumes, load balancers of Services."""
        last = 0
        nodes: list[Thing] = []
        for since, state in cluster.states:
            for node in nodes[int(state) :]:
                node.lives = [(node.born, since)]
            del nodes[int(state) :]
            while len(nodes) < int(state):
                last += 1
                name = f"pool-{last}" if self.random.random() < 0.1 else f"pool-{self._uuid()[:5]}"
                nodes.append(self._made("droplet", cluster, born=since, died=cluster.died, name=name, state=_NODE_SIZE))
        for _ in range(self.random.randrange(4)):
            born = self._within(cluster)
            died = self._moment(born, min(cluster.died, END)) if self.random.random() < 0.4 else cluster.died
            self._made("volume", cluster, born=born, died=died, name=f"pvc-{self._uuid()}", state="10")
        for _ in range(self.random.randrange(3)):
            born = self._within(cluster)
            died = self._moment(born, min(cluster.died, END)) if self.random.random() < 0.4 else cluster.died
            self._made("load_balancer", cluster, born=born, died=died, name="a" + self._uuid().replace("-", "")[:31], state="1")

    def _made(self, kind: str, cluster: Thing, *, born: datetime, died: datetime, name: str, state: str) -> Thing:
        thing = Thing(
            kind=kind,
            provider_id=str(next(self._numbers[kind])) if kind == "droplet" else self._uuid(),
            region=cluster.region,
            lives=[(born, max(died, born + timedelta(minutes=5)))],
            names=[(born, name)],
            states=[(born, state)],
            projects=[(born, cluster.projects[0][1])],
            cluster=cluster,
        )
        self.things.append(thing)
        return thing

    def _name(self) -> str:
        """Every third one is taken from a small pool; now and then a cluster's node lends its own."""
        number = next(self._numbers["name"])
        if number % 3 == 0:
            return self.random.choice(_SHARED_NAMES)
        if number % 40 == 1:
            return "pool-1"
        return f"{self.random.choice(('app', 'job', 'pg'))}-{number}.example.org"

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _moment(self, first: datetime, last: datetime) -> datetime:
        """A whole second between the two."""
        return first + timedelta(seconds=self.random.randrange(max(1, int((last - first).total_seconds()))))

    def _within(self, thing: Thing) -> datetime:
        return self._moment(thing.born + timedelta(seconds=1), min(thing.died, END))

    def _end(self, born: datetime) -> datetime:
        """When something born then dies: mostly never, sometimes after less than an hour."""
        if self.random.random() < 0.05:
            return self._moment(born + timedelta(minutes=10), born + timedelta(hours=20))
        died = self._moment(born + timedelta(hours=3), END + timedelta(days=200))
        return died if died < END else STILL_THERE

    # What is listed

    def listings(self, first: datetime) -> dict[datetime, list[str]]:
        """The kinds to list at each moment, from `first` on, so that the ledger learns what listing all of them every time would tell.

        That is the last listing before each change and the first one after it, two more where something vanished (the third without it
        tombstones it), and all kinds at the beginning and before each invoice is read.
        """
        again = min(self.listed_every, timedelta(hours=1))
        moments: dict[datetime, set[str]] = {}
        for thing in self.things:
            for change, gone in thing.changes():
                if change >= HORIZON:
                    continue
                before = MONTHS[0] + (change - MONTHS[0]) // self.listed_every * self.listed_every
                after = before + self.listed_every
                for moment in (before, after, *((after + again, after + 2 * again) if gone else ())):
                    moments.setdefault(moment, set()).add(thing.kind)
        all_kinds = {thing.kind for thing in self.things}
        for moment in (first, *(next_month(month) + INGESTED_AFTER for month in MONTHS)):
            moments[moment] = all_kinds
        return {moment: sorted(kinds) for moment, kinds in moments.items() if first <= moment <= HORIZON}

    def listing(self, kind: str, moment: datetime) -> list[Resource]:
        """What the API lists of the kind at the moment."""
        return [thing.listed(moment) for thing in self.things if thing.kind == kind and thing.lived(moment)]

    # What is billed

    def invoices(self) -> list[Invoice]:
        """One for each month, oldest first. The same at each call."""
        chance = random.Random(self.seed)
        return [self._invoice(month, chance) for month in MONTHS]

    def preview(self, until: datetime) -> Invoice:
        """What the provider shows, at a moment of a month, of the invoice to come."""
        return self._invoice(until.replace(day=1, hour=0, minute=0, second=0), random.Random(self.seed), until)

    def _invoice(self, month: datetime, chance: random.Random, until: datetime | None = None) -> Invoice:
        end = until or next_month(month)
        made = end + timedelta(hours=chance.randrange(6, 47))
        biller = _Biller(self, made, chance)
        for thing in self.things:
            if thing.kind == "droplet" and thing.cluster:
                continue  # the cluster's node pools pay for it
            for born, died in thing.lives:
                first, last = max(born, month), min(died, end)
                cuts = [since for since, _ in thing.states if first < since < last]
                for begins, ends in itertools.pairwise([first, *cuts, last] if first < last else []):
                    biller.bill(thing, _at(thing.states, begins), begins, ends)
            if thing.backups:
                biller.bill_backups(thing, month, end)
        lines = biller.lines
        chance.shuffle(lines)
        lines.sort(key=lambda line: str(line.item["product"]))
        biller.lines = lines
        biller.bill_account(month, end, self._account_lines(month, chance))
        return Invoice(month, biller.lines)

    def _account_lines(self, month: datetime, chance: random.Random) -> list[tuple[str, str, str, str, str]]:
        """(product, group, description, amount, status) of what pays for no resource."""
        spaces = ("250GB storage & 1TB bandwidth", "250GiB storage & 1TiB bandwidth", "250GiB storage & 1TiB transfer")[month.month % 3]
        overage = chance.randrange(1, 300_000)
        lines = [
            ("Spaces Subscription", "", f"Spaces ($5/mo {spaces})", "5.00", "account_level"),
            ("Container Registry Subscription", "", "Container Registry (basic)", "5.00", "account_level"),
            ("Uptime Health Check", "", "1 additional check", "1.00", "account_level"),
            ("GenAI Platform", "Serverless Inference", "GenAI Serverless Inference - Llama 3.3 (70B)", "3.21", "account_level"),
            ("Quantum Computers", "", "web", "0.05", "unmatched"),
        ]
        if chance.random() < 0.3:
            description = f"Droplet Bandwidth Overage ({Decimal(overage) / 100:.2f}GB @ $0.01/GB)"
            lines.append(
                (chance.choice(("", "Droplets", "Overages")), "", description, f"{cents(Decimal(overage) / 10_000):.2f}", "account_level")
            )
        if chance.random() < 0.3:
            lines.append((chance.choice(("", "Credits")), "", "Inference Cloud Trial", "-5.00", "credit"))
        return lines


class _Biller:
    """Writes the lines of one invoice."""

    def __init__(self, account: GeneratedAccount, made: datetime, chance: random.Random) -> None:
        self.account = account
        self.made = made
        self.chance = chance
        self.lines: list[Line] = []

    def name_shown(self, thing: Thing, ends: datetime) -> str:
        moment = min(self.made, thing.died) if self.account.name_when_invoiced else ends
        return thing.name_at(moment - timedelta(seconds=1))

    def bill(self, thing: Thing, state: str, first: datetime, last: datetime) -> None:
        """The lines of a thing for a time in which its state was one."""
        hours = hours_between(first, last)
        for product, group, description, price in self._charges(thing, state, first, last):
            whole = price * hours if state.startswith("gpu-") else price
            amount = prorated(price, hours) if whole is price and price > 0 else f"{cents(whole):.2f}"
            # Volumes end with the last second of a month, all else with the first of the next.
            ends = last - timedelta(seconds=product == "Volumes" and last == next_month(first))
            self._line(product, group, description, amount=amount, first=first, last=ends, duration=str(hours), thing=thing)

    def _charges(self, thing: Thing, state: str, first: datetime, last: datetime) -> Iterator[tuple[str, str, str, Decimal]]:
        """(product, group, description, USD a month, or an hour) of each line."""
        name, region = self.name_shown(thing, last), thing.region.split(",")[0]
        price = _price(thing.kind, state, first)
        if thing.cluster and thing.kind == "load_balancer":
            yield "Kubernetes Clusters", self.name_shown(thing.cluster, last), name, price
        elif thing.kind == "snapshot":
            what = "Volume" if thing.parent and thing.parent.kind == "volume" else "Droplet"
            yield f"{what} Snapshots", "", f"{name} ({region}) {Decimal(state):.2f}GB {what} Snapshot", price
        elif thing.kind == "k8s_cluster":
            pool = f"{state} node{'' if state == '1' else 's'} - 4 GB / 2 vCPU / 80 GB SSD"
            yield "Kubernetes Clusters", name, pool, price
            yield "Kubernetes Clusters", name, "High Availability Control Plane", Decimal(40)
        elif thing.kind == "managed_db":
            yield "Database Clusters", name, f"{name} ({state})", price
            yield "Database Clusters", name, f"{name} included storage", Decimal(0)
            if self.chance.random() < 0.3:
                yield "Database Clusters", name, f"{name} adjustment", Decimal("-1.20")
        elif thing.kind == "app":
            for component in state.split(","):
                yield "App Platform", name, component, price
        elif thing.kind not in _IPS or not state:  # an address that is assigned is free
            product, description = _WORDINGS[thing.kind]
            group = self.account.balancer_group if thing.kind == "load_balancer" else ""
            size = _PRINTED_SIZE.get(state, state)
            yield product, group, description.format(name=name, region=region, size=size), price

    def bill_backups(self, droplet: Thing, month: datetime, end: datetime) -> None:
        """A line for all backups of the month: the hours are their number, the times those of the first and the last.

        Each of the weekly ones costs 5 % of the price at its time, and no more than 20 % altogether
        (https://docs.digitalocean.com/products/backups/details/pricing/); daily ones 30 % a month.
        """
        weekly = droplet.backups == "Weekly"
        every = timedelta(days=7 if weekly else 1)
        taken = [droplet.born + every * number for number in range(1, 800)]
        taken = [moment for moment in taken if month <= moment < min(end, droplet.died)]
        if not taken:
            return
        sizes = [_at(droplet.states, moment) for moment in taken]
        prices = [items.monthly_price(size, month) for size in sizes]
        share, whole = (Decimal("0.05"), Decimal("0.20")) if weekly else (Decimal("0.30") / 28, Decimal("0.30"))
        amount = cents(min(sum(prices, Decimal(0)) * share, max(prices) * whole))
        name = self.name_shown(droplet, taken[-1])
        description = f"{name} ({droplet.backups} Backup Services)"
        self._line(
            "Droplet Backups",
            "",
            description,
            amount=f"{amount:.2f}",
            thing=droplet,
            first=taken[0],
            last=taken[-1],
            duration=str(len(taken)),
        )

    def bill_account(self, month: datetime, end: datetime, lines: list[tuple[str, str, str, str, str]]) -> None:
        """What is the whole account's, and two taxes on all of it, credits taken off first."""
        last = end - timedelta(seconds=1)
        for product, group, description, amount, status in lines:
            self._line(product, group, description, amount=amount, first=month, last=last, status=status)
        taxed = sum((Decimal(line.item["amount"]) for line in self.lines), Decimal(0))
        for name, rate in (("STATE SALES TAX", "6.25"), ("City, (local) tax", "1.10")):
            amount = f"{cents(taxed * Decimal(rate) / 100):.2f}"
            self._line("Taxes", "", f"{name} ({rate}%)", amount=amount, first=month, last=last, status="tax")

    def _line(
        self,
        product: str,
        group: str,
        description: str,
        *,
        amount: str,
        first: datetime,
        last: datetime,
        duration: str = "",
        thing: Thing | None = None,
        status: str = "matched",
    ) -> None:
        number, key = self._ids(thing)
        project = "" if thing is None or thing.kind == "snapshot" else _at(thing.projects, last)
        item = {
            "product": product,
            "resource_id": number,
            "resource_uuid": key,
            "group_description": group,
            "description": description,
            "amount": amount,
            "duration": duration,
            "duration_unit": "Hours" if duration else "",
            "start_time": iso(first),
            "end_time": iso(last),
            "project_name": project,
            "category": "iaas",
        }
        self.lines.append(Line(item, thing, status))

    def _ids(self, thing: Thing | None) -> tuple[str, str]:
        """resource_id and resource_uuid: a number for droplets and their snapshots, a uuid for the rest, neither for addresses."""
        if thing is None or thing.kind in _IPS:
            return "", ""
        billed = thing.cluster if thing.cluster and thing.kind == "load_balancer" else thing
        key = billed.provider_id
        if key.isdigit():
            return key, str(uuid.uuid5(uuid.NAMESPACE_OID, key)) if self.account.both_ids and thing.kind == "droplet" else ""
        return "1234" if self.account.both_ids and thing.kind == "load_balancer" and not thing.cluster else "", key
