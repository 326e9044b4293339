"""The demo's account, `sky-ai`: what it holds in May 2026, and the invoices of its droplets and snapshots since 2014.

Belongs here: this one account, told from the lifetimes in data/*.csv by the provider's pricing rules, the same in every
process. Does not belong here: shapes of items (items.py), state and printing (account.py).
"""

import csv
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from arcadia_dagster.demo import items
from arcadia_dagster.demo.account import SimulatedAccount, SimulatedInvoice, total
from arcadia_dagster.demo.items import Item, monthly_price
from arcadia_dagster.demo.rules import cents, hours_between, iso, next_month, prorated

_NOW = datetime(2026, 5, 12, 5, 30, tzinfo=UTC)  # the account is as it was then; the preview was made then
_PROJECTS_EXIST = datetime(2018, 9, 27, tzinfo=UTC)
_SNAPSHOTS_COST = datetime(2016, 10, 1, tzinfo=UTC)
_SPACES_SINCE = datetime(2018, 2, 1, tzinfo=UTC)
_GST_SINCE = datetime(2018, 1, 1, tzinfo=UTC)
_GST = Decimal("0.18")

_PROJECT_IDS = {
    "Sky AI": "1f0b7c52-8f57-4a53-9a68-1b1f0d3c7a10",
    "platform": "5b7e2a94-0c1d-4f6b-8f0e-6f2d9c4e3b21",
    "research": "c3d41f08-7a2e-4b8d-9e55-2a7b8c6d5e32",
}
# What each project lists. mail.sky-ai.com and two zones are in none.
_MEMBERS = {
    "Sky AI": ("www.sky-ai.com", "do:domain:sky-ai.com", "do:domain:sky-ai.in", "do:space:sky-ai-static"),
    "platform": (
        "git.sky-ai.com", "ci.sky-ai.com", "do:domain:skyai.dev", "do:space:sky-ai-backups", "do:space:sky-ai-registry",
        "do:space:sky-ai-logs",
    ),
    "research": (
        "pg.sky-ai.com", "do:domain:skyai-labs.com", "do:domain:cloudsight.in", "do:space:sky-ai-datasets",
        "do:space:sky-ai-models",
    ),
}  # fmt: skip
_DOMAINS = ("sky-ai.com", "sky-ai.in", "skyai.dev", "skyai-labs.com", "cloudsight.in", "sky-ai.org", "skyai.email")
_TAGS = {
    "git.sky-ai.com": ("env:prod", "git"),
    "www.sky-ai.com": ("env:prod", "web"),
    "mail.sky-ai.com": ("env:prod",),
    "ci.sky-ai.com": ("ci",),
    "pg.sky-ai.com": (),
}
_IMAGES = {
    "git.sky-ai.com": ("12 x64", "debian-12-x64"),
    "www.sky-ai.com": ("18.04 (LTS) x64", "ubuntu-18-04-x64"),
    "mail.sky-ai.com": ("20.04 (LTS) x64", "ubuntu-20-04-x64"),
}
# Droplets with weekly backups: name -> time of the first. A backup is made each week until the droplet is destroyed.
_BACKED_UP = {
    "git.sky-ai.com": datetime(2019, 1, 6, 3, 12, 40, tzinfo=UTC),
    "repo.sky-ai.com": datetime(2019, 3, 3, 4, 2, 15, tzinfo=UTC),
}
# The last backup of the droplet destroyed on 31 March 2026 was billed a month late.
_BILLED_LATE = {("repo.sky-ai.com", datetime(2026, 3, 29, 4, 2, 15, tzinfo=UTC))}
_CREDITS = {"2015-01": ("DigitalOcean Credit Applies", "5.00"), "2025-09": ("Inference Cloud Trial", "5.00")}
_OVERAGES = {"2020-05": ("Droplet Bandwidth Overage (2825.36GB @ $0.01/GB)", "28.25")}


@dataclass(frozen=True)
class _Stage:
    """A droplet while it had one size; a resized droplet has several, one after the other."""

    droplet_id: int
    name: str
    size: str
    region: str
    project: str
    started: datetime
    ended: datetime | None


@dataclass(frozen=True)
class _Snapshot:
    """A snapshot; `billed_name` is the name on its invoice lines, which a later rename does not change."""

    snapshot_id: int
    name: str
    billed_name: str
    droplet_id: int
    gigabytes: Decimal
    regions: tuple[str, ...]
    created: datetime
    deleted: datetime | None


def sky_ai_account() -> SimulatedAccount:
    """The account: 5 droplets, 12 snapshots, 4 backups, 7 DNS zones, 1 firewall, 6 buckets, and 137 invoices."""
    stages, snapshots = list(_read_stages()), list(_read_snapshots())
    living = [stage for stage in stages if stage.ended is None]
    kept = [snapshot for snapshot in snapshots if snapshot.deleted is None]
    backups = {stage.droplet_id: list(_backups(stage)) for stage in living if stage.name in _BACKED_UP}
    droplets = [
        items.droplet(
            stage.droplet_id,
            stage.name,
            created_at=iso(min(other.started for other in stages if other.droplet_id == stage.droplet_id)),
            size_slug=stage.size,
            region_slug=stage.region,
            tags=_TAGS[stage.name],
            features=("monitoring", "private_networking", *(["backups"] if stage.droplet_id in backups else [])),
            backup_ids=[backup["id"] for backup in backups.get(stage.droplet_id, [])],
            next_backup_window=({"start": "2026-05-17T00:00:00Z", "end": "2026-05-17T23:00:00Z"} if stage.droplet_id in backups else None),
            snapshot_ids=[snapshot.snapshot_id for snapshot in kept if snapshot.droplet_id == stage.droplet_id],
            image=items.base_image(*_IMAGES.get(stage.name, ("22.04 (LTS) x64", "ubuntu-22-04-x64"))),
        )
        for stage in living
    ]
    ids = {stage.name: stage.droplet_id for stage in living}
    invoices, history = _invoices(stages, snapshots)
    preview = _invoice(_NOW.replace(day=1, hour=0, minute=0), stages, snapshots)
    preview.updated_at = iso(_NOW)
    return SimulatedAccount(
        token="sky-ai-token",  # noqa: S106 - of a simulated account
        team_uuid=_uuid("team"),
        team_name="sky-ai",
        droplets=droplets,
        snapshots=[
            items.snapshot(
                snapshot.snapshot_id,
                snapshot.name,
                resource_id=snapshot.droplet_id,
                created_at=iso(snapshot.created),
                size_gigabytes=float(snapshot.gigabytes),
                regions=snapshot.regions,
            )
            for snapshot in kept
        ],
        backups=backups,
        firewalls=[
            items.firewall(
                _uuid("firewall"),
                "web-and-ssh",
                created_at="2019-02-17T06:11:30Z",
                droplet_ids=[ids[name] for name in ("www.sky-ai.com", "git.sky-ai.com", "mail.sky-ai.com")],
            )
        ],
        domains=[items.domain(name) for name in _DOMAINS],
        projects=[
            items.project(
                project_id,
                name,
                created_at=iso(_PROJECTS_EXIST + timedelta(days=number)),
                description=f"Everything of {name}",
                is_default=name == "Sky AI",
            )
            for number, (name, project_id) in enumerate(_PROJECT_IDS.items())
        ],
        project_resources={
            _PROJECT_IDS[name]: [
                items.project_resource(f"do:droplet:{ids[member]}" if member in ids else member, assigned_at="2025-01-09T08:21:17Z")
                for member in members
            ]
            for name, members in _MEMBERS.items()
        },
        balance={
            "month_to_date_balance": preview.amount,
            "account_balance": "0.00",
            "month_to_date_usage": preview.amount,
            "generated_at": iso(_NOW),
        },
        billing_history=history,
        invoices=invoices,
        preview=preview,
    )


def _read_stages() -> Iterator[_Stage]:
    for row in _rows("sky_ai_droplets.csv"):
        yield _Stage(
            droplet_id=int(row["droplet_id"]),
            name=row["name"],
            size=row["size"],
            region=row["region"],
            project=row["project"],
            started=datetime.fromisoformat(row["started_at"]),
            ended=datetime.fromisoformat(row["ended_at"]) if row["ended_at"] else None,
        )


def _read_snapshots() -> Iterator[_Snapshot]:
    for row in _rows("sky_ai_snapshots.csv"):
        yield _Snapshot(
            snapshot_id=int(row["snapshot_id"]),
            name=row["name"],
            billed_name=row["billed_name"] or row["name"],
            droplet_id=int(row["droplet_id"]),
            gigabytes=Decimal(row["gigabytes"]),
            regions=tuple(row["regions"].split(";")),
            created=datetime.fromisoformat(row["created_at"]),
            deleted=datetime.fromisoformat(row["deleted_at"]) if row["deleted_at"] else None,
        )


def _rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / "data" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _backups(stage: _Stage) -> Iterator[Item]:
    """The four weekly backups that are kept."""
    number = (_NOW - _BACKED_UP[stage.name]).days // 7
    for week in range(number - 3, number + 1):
        made = _BACKED_UP[stage.name] + timedelta(weeks=week)
        yield items.backup(
            224_300_000 + 1_000 * (week - number) + 417,
            f"{stage.name} {made:%Y-%m-%d}",
            created_at=iso(made),
            size_gigabytes=round(9.58 + week % 5 / 50, 2),
            region_slug=stage.region,
            min_disk_size=50,
        )


def _invoices(stages: list[_Stage], snapshots: list[_Snapshot]) -> tuple[list[SimulatedInvoice], list[Item]]:
    """Every invoice, and the billing history with it and its payment; both newest first, as the API lists them."""
    invoices: list[SimulatedInvoice] = []
    history: list[Item] = []
    month = datetime(2014, 12, 1, tzinfo=UTC)
    while next_month(month) <= _NOW:
        invoice = _invoice(month, stages, snapshots)
        issued = next_month(month) + timedelta(hours=6, minutes=month.month * 4, seconds=month.year % 60)
        invoices.insert(0, invoice)
        history.insert(
            0,
            {
                "description": f"Invoice for {month:%B %Y}",
                "amount": invoice.amount,
                "invoice_id": invoice.invoice_id,
                "invoice_uuid": invoice.uuid,
                "date": iso(issued),
                "type": "Invoice",
            },
        )
        if Decimal(invoice.amount) > 0:
            paid = issued + timedelta(days=1 + month.month % 3, hours=2)
            payment = {
                "description": "Payment (card)",
                "amount": f"-{invoice.amount}",
                "date": iso(paid),
                "type": "Payment",
            }
            history.insert(0, payment)
        month = next_month(month)
    return invoices, history


def _invoice(month: datetime, stages: list[_Stage], snapshots: list[_Snapshot]) -> SimulatedInvoice:
    """The invoice of a month, or, for the month that is not over, its preview."""
    end = min(next_month(month), _NOW)
    period = f"{month:%Y-%m}"
    lines = list(_droplet_lines(month, end, stages))
    lines += _backup_lines(month, end, stages)
    lines += _snapshot_lines(month, end, snapshots)
    if month >= _SPACES_SINCE:
        wording = "250GB storage & 1TB bandwidth" if month.year < 2021 else "250GiB storage & 1TiB bandwidth"
        hours = hours_between(month, end)
        lines.append(_line("Spaces Subscription", f"Spaces ($5/mo {wording})", "5.00", month, end, duration=hours))
    last_second = next_month(month) - timedelta(seconds=1)
    if period in _OVERAGES:
        lines.append(_line("Overages", *_OVERAGES[period], month, last_second))
    if period in _CREDITS:
        description, amount = _CREDITS[period]
        lines.append(_line("Credits", description, f"-{amount}", month, last_second))
    if month >= _GST_SINCE:
        tax = cents(Decimal(total(lines)) * _GST)
        lines.append(_line("Taxes", "GST (18.00%)", f"{tax:.2f}", month, last_second))
    number = (month.year - 2014) * 12 + month.month
    return SimulatedInvoice(
        uuid=_uuid("invoice", period),
        invoice_id=str(3_100_000 + number * 3_571_113 + month.month * 1_009),
        period=period,
        amount=total(lines),
        items=lines,
    )


def _droplet_lines(month: datetime, end: datetime, stages: list[_Stage]) -> Iterator[Item]:
    """A line for each size that each droplet had in the month; those still running at its end come first."""
    billed = [stage for stage in stages if stage.started < end and (stage.ended is None or stage.ended > month)]
    for stage in sorted(billed, key=lambda stage: stage.ended is not None and stage.ended < end):
        start, stop = max(stage.started, month), min(stage.ended or end, end)
        hours = hours_between(start, stop)
        price = monthly_price(stage.size, start)
        yield _line(
            "Droplets",
            f"{stage.name} ({stage.size})",
            prorated(price, max(hours, 1)),  # an hour is the least that is charged
            start,
            stop,
            duration=hours,
            resource_id=stage.droplet_id,
            project=stage.project,
        )


def _backup_lines(month: datetime, end: datetime, stages: list[_Stage]) -> Iterator[Item]:
    """A line for each droplet with backups: "hours" is their number; each costs 5 % of the droplet, at most 20 %."""
    last_stages = {stage.droplet_id: stage for stage in stages if stage.name in _BACKED_UP}
    for stage in last_stages.values():
        first = _BACKED_UP[stage.name]
        near = max((month - first).days // 7 - 5, 0)  # from the month before, for what is billed late
        weeks = (first + timedelta(weeks=week) for week in range(near, near + 11))
        made = [
            time
            for time in weeks
            if (stage.ended is None or time < stage.ended)
            and month <= (next_month(time) if (stage.name, time) in _BILLED_LATE else time) < end
        ]
        if made:
            price = monthly_price(stage.size, made[0])
            yield _line(
                "Droplet Backups",
                f"{stage.name} (Weekly Backup Services)",
                f"{cents(price * Decimal('0.05') * min(len(made), 4)):.2f}",
                made[0],
                made[-1],
                duration=len(made),
                resource_id=stage.droplet_id,
                project=stage.project,
            )


def _snapshot_lines(month: datetime, end: datetime, snapshots: list[_Snapshot]) -> Iterator[Item]:
    """A line for each region in which each snapshot is kept."""
    if month < _SNAPSHOTS_COST:
        return
    rate = Decimal("0.06") if month >= datetime(2022, 7, 1, tzinfo=UTC) else Decimal("0.05")
    for snapshot in snapshots:
        if snapshot.created >= end or (snapshot.deleted is not None and snapshot.deleted <= month):
            continue
        start, stop = max(snapshot.created, month), min(snapshot.deleted or end, end)
        hours = hours_between(start, stop)
        for region in snapshot.regions:
            yield _line(
                "Droplet Snapshots",
                f"{snapshot.billed_name} ({region}) {snapshot.gigabytes}GB Droplet Snapshot",
                prorated(snapshot.gigabytes * rate, hours),
                start,
                stop,
                duration=hours,
                resource_id=snapshot.snapshot_id,
            )


def _line(
    product: str,
    description: str,
    amount: str,
    start: datetime,
    end: datetime,
    *,
    duration: int | None = None,
    resource_id: int | None = None,
    project: str = "",
) -> Item:
    return {
        "product": product,
        "resource_uuid": "",
        "resource_id": "" if resource_id is None else str(resource_id),
        "group_description": "",
        "description": description,
        "amount": amount,
        "duration": "" if duration is None else str(duration),
        "duration_unit": "" if duration is None else "Hours",
        "start_time": iso(start),
        "end_time": iso(end),
        "project_name": project if end > _PROJECTS_EXIST else "",
        "category": "iaas",
    }


def _uuid(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "https://sky-ai.com/" + "/".join(parts)))
