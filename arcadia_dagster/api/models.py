"""What goes in and out of the read API, as types from which the OpenAPI document is made. No queries, no rules.

Fields bear the names that the columns have in the ledger's views.
"""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

BIGGEST_ID = 2**63 - 1
_MONEY = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "examples": ["12.34"]}

Money = Annotated[Decimal, PlainSerializer(lambda amount: format(amount, "f"), return_type=str, when_used="json"), WithJsonSchema(_MONEY)]
"""USD, exact: a string in JSON, as JSON's numbers are floats to most who read them."""

Time = AwareDatetime


def _whole(value: object) -> object:
    # Without this, " 5 ", "5.0" and "1_0" are numbers too.
    if isinstance(value, str) and not re.fullmatch("-?[0-9]+", value):
        raise ValueError("must be a whole number")
    return value


def _month(value: object) -> object:
    if isinstance(value, str):
        if not re.fullmatch(r"[12]\d{3}-(0[1-9]|1[0-2])-01", value, re.ASCII):
            raise ValueError("must be the first day of a month, such as 2026-04-01")
        return date.fromisoformat(value)
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


Words = Annotated[str, Field(max_length=1000, json_schema_extra={"pattern": r"^[^\x00]*$"}), AfterValidator(_no_nul)]
Month = Annotated[
    date,
    BeforeValidator(_month),
    WithJsonSchema({"type": "string", "format": "date", "pattern": "^[12][0-9]{3}-(0[1-9]|1[0-2])-01$", "examples": ["2026-04-01"]}),
]
ResourceId = Annotated[int, Field(ge=1, le=BIGGEST_ID), BeforeValidator(_whole)]
Next = Annotated[str | None, Field(description="The cursor of the next page, which the header Link names too. null: this is the last")]


class Asked(BaseModel):
    """The parameters of a question. One without a value is as none; one that does not exist is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, dict) else given

    def filters(self) -> dict[str, Any]:
        """Those that say which rows are wanted, and only those that are given."""
        return {name: value for name, value in self if value is not None and name not in ("limit", "cursor")}


class OfAccount(Asked):
    """What can be asked of one account."""

    account: Words | None = Field(None, description="Only this account: its name, or its `account_id`")


class Paged(Asked):
    """What is answered page by page."""

    limit: Annotated[int, BeforeValidator(_whole)] = Field(100, ge=1, le=1000, description="How many items a page may have")
    cursor: Words | None = Field(None, description="`next` of the page before, with the filters unchanged")


class InventoryQuery(Paged, OfAccount):
    """Which resources."""

    kind: Words | None = Field(None, description="Only this kind", examples=["droplet"])
    project: Words | None = Field(None, description="Only what is in the project of this name")
    tag: Words | None = Field(None, description="Only what has this tag")
    state: Literal["active", "deleted", "billing_only"] | None = Field(None, description="Only what is in this state")
    name: Words | None = Field(None, description="Only what has this name, case ignored; `*` stands for anything", examples=["web-*"])


class CostLinesQuery(Paged, OfAccount):
    """Which lines of invoices."""

    period: Month | None = Field(None, description="Only invoices of this month, named by its first day")
    kind: Words | None = Field(None, description="Only what pays for this kind of resource; `account`, `tax` and `credit` are kinds here")
    project: Words | None = Field(None, description="Only what pays for something in the project of this name")
    status: Literal["matched", "account_level", "tax", "credit", "ambiguous", "unmatched"] | None = Field(
        None, description="Only lines of this `match_status`"
    )


class Health(BaseModel):
    """That the server can answer."""

    status: Literal["ok"] = Field(description="Anything else is a problem with status 503")
    schema_revision: str = Field(description="Of the ledger's schema", examples=["0005"])


class Resource(BaseModel):
    """Something that the account has or had."""

    resource_id: int = Field(description="Ours; it never changes", examples=[42])
    account_id: int = Field(description="The account's number in this ledger", examples=[1])
    account: str = Field(description="The account's name; two can have the same", examples=["sky-ai"])
    kind: str = Field(examples=["droplet"])
    provider_id: str = Field(description="The provider's id of it", examples=["3164444"])
    name: str = Field(description="The name that it has now, or had last", examples=["web-01"])
    region: str | None = Field(description="The provider's slug; of what is in several, all with commas between", examples=["fra1"])
    status: str | None = Field(description="As the provider says", examples=["active"])
    state: Literal["active", "deleted", "billing_only"] = Field(
        description="`deleted`: missing from three complete listings in a row; `billing_only`: known from invoices alone"
    )
    tags: list[str] = Field(examples=[["web", "team:acme"]])
    attrs: dict[str, Any] = Field(description="Allow-listed fields of the provider's object", examples=[{"size_slug": "s-1vcpu-1gb"}])
    monthly_price: Money | None = Field(description="USD a month at list price, where the provider says one. Not billed money")
    project: str | None = Field(description="Name of the project that it is in", examples=["web"])
    tenant_id: str | None = Field(description="The tenant that it belongs to", examples=["acme"])
    parent_kind: str | None = Field(description="Kind of what it was taken of")
    parent_provider_id: str | None = Field(description="The provider's id of what it was taken of")
    provider_created_at: Time | None = Field(description="When the provider says it was created")
    first_seen_at: Time = Field(description="The listing that first showed it")
    last_seen_at: Time = Field(description="The newest listing that showed it")
    deleted_at: Time | None = Field(description="When it was given up")


class InventoryPage(BaseModel):
    """Resources, oldest in the ledger first."""

    items: list[Resource]
    next: Next


class TimelineEntry(BaseModel):
    """Something that happened to a resource."""

    at: Time = Field(description="When a listing first showed it, the provider issued it, or a line's match was changed")
    what: str = Field(
        description="created, discovered, updated, tagged, drift_detected, deleted, restored, price_changed, billed, line_gained or"
        " line_lost",
        examples=["billed"],
    )
    detail: str | None = Field(description="What changed, from what to what; which invoice; which line")
    amount_usd: Money | None = Field(description="USD of `billed`: all lines of that invoice for it")


class TimelinePage(BaseModel):
    """A resource and what happened to it, oldest first."""

    resource: Resource
    items: list[TimelineEntry]
    next: Next


class Balance(BaseModel):
    """What an account owes, as the provider said last."""

    account_id: int = Field(description="The account's number in this ledger", examples=[1])
    account: str = Field(description="The account's name; two can have the same", examples=["sky-ai"])
    month_to_date_balance: Money | None = Field(description="USD: `account_balance` and `month_to_date_usage` together")
    account_balance: Money | None = Field(description="USD, without this month's usage")
    month_to_date_usage: Money | None = Field(description="USD")
    generated_at: Time | None = Field(description="When the provider worked the figures out")
    taken_at: Time = Field(description="When they were read")


class Balances(BaseModel):
    """The newest balance of each account."""

    items: list[Balance]


class CostLine(BaseModel):
    """A line of a closed invoice, and what it pays for."""

    line_id: int = Field(description="Another one when its invoice is stored anew; `invoice_uuid` and `ordinal` stay", examples=[1001])
    period: date = Field(description="First day of the month that the invoice bills", examples=["2026-04-01"])
    invoice_uuid: str = Field(examples=["22737513-0ea7-4206-8ceb-98a575af7681"])
    invoice_id: str | None = Field(description="The number on the invoice's face", examples=["123456789"])
    ordinal: int = Field(description="Place on the invoice, from 1", examples=[1])
    account_id: int = Field(description="The account's number in this ledger", examples=[1])
    account: str = Field(description="The account's name; two can have the same", examples=["sky-ai"])
    product: str = Field(description="As invoiced", examples=["Droplets"])
    group_description: str = Field(description="As invoiced: the cluster, database or app that the line is part of")
    description: str = Field(description="As invoiced", examples=["web-01 (s-1vcpu-1gb)"])
    hours: Money | None = Field(description="As printed. On backup lines it is the number of backups")
    started_at: Time | None = Field(description="From when the line bills")
    ended_at: Time | None = Field(description="To when the line bills")
    amount_usd: Money = Field(description="USD as billed; credits are negative")
    kind: str | None = Field(description="Kind of what it pays for; account, tax or credit where that is no resource", examples=["droplet"])
    project: str | None = Field(description="Where the resource is now; for what is in no project, the name on the invoice")
    tenant_id: str | None = Field(description="The tenant that it counts for", examples=["acme"])
    match_status: Literal["matched", "account_level", "tax", "credit", "ambiguous", "unmatched"]
    match_method: str | None = Field(description="How the resource is known: id, name, parent, group or ip", examples=["id"])
    reason: str | None = Field(description="Why it is matched to no resource")
    resource_id: int | None = Field(description="The resource it pays for", examples=[42])
    resource_provider_id: str | None = Field(description="The provider's id of that resource", examples=["3164444"])
    resource_name: str | None = Field(description="The name that it has now, or had last", examples=["web-01"])
    resource_region: str | None = Field(description="The provider's slug", examples=["fra1"])
    resource_state: Literal["active", "deleted", "billing_only"] | None = Field(description="As in the inventory")


class CostLinesPage(BaseModel):
    """Lines of closed invoices, by month, invoice and place on it."""

    items: list[CostLine]
    next: Next


class InventoryKey(BaseModel):
    """Where a page of the inventory ended."""

    resource_id: int = Field(ge=0, le=BIGGEST_ID)


class LineKey(BaseModel):
    """Where a page of lines ended."""

    period: date
    invoice_uuid: Words
    ordinal: int = Field(ge=0, le=2**31 - 1)


class EntryKey(BaseModel):
    """Where a page of a timeline ended."""

    at: datetime
    what: Words
    digest: Words
    copy_number: int = Field(ge=0, le=BIGGEST_ID)
