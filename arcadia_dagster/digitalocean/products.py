"""What an invoice line says it pays for: its product and texts -> a `Meaning`.

The wordings are data, one ordered table, because the provider publishes no list of them: a new one is a new row. Nothing here knows an
inventory, so nothing here says which resource it is; documents are read in `invoices.py`, resources are found by `ledger/matching.py`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import msgspec


class Charge(StrEnum):
    """What sort of thing a line pays for."""

    RESOURCE = "resource"
    ACCOUNT_LEVEL = "account_level"
    TAX = "tax"
    CREDIT = "credit"
    UNKNOWN = "unknown"


class LookUp(StrEnum):
    """How the name in a line leads to the resource."""

    NAME = "name"  # it is the resource's own
    PARENT = "parent"  # it is that of the droplet a backup was taken of
    GROUP = "group"  # it is that of the cluster, database or app that several lines belong to
    IP = "ip"  # it is the address, which is also the provider's id


class Meaning(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a line's product and texts say, without any inventory.

    `kind` is that of the resource paid for; "account", "tax" or "credit" where that is no resource; None for an unknown product. `name`,
    `region` and `size` are as printed, trimmed; None where the text has none. `component` is the part of a grouped product (a node pool).
    `reason` says to people why the line has no resource; None exactly for RESOURCE.
    """

    charge: Charge
    kind: str | None
    name: str | None
    region: str | None
    size: str | None
    look_up: LookUp | None
    component: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Wording:
    """One row of the table: whole product and whole description as patterns (case ignored), and what they mean.

    The description's groups `name`, `region` and `size` go to the meaning. Greedy patterns read brackets from the right, because names
    may hold brackets too. `alone`: only for lines that carry neither an id nor a group. `word`: what every such description holds, in
    lower case; to look for it takes a tenth of what the pattern takes.
    """

    product: re.Pattern[str]
    description: re.Pattern[str]
    charge: Charge
    kind: str | None
    look_up: LookUp | None
    reason: str | None
    alone: bool
    word: str


def _wording(
    product: str,
    description: str = ".*",
    *,
    charge: Charge = Charge.RESOURCE,
    kind: str | None = None,
    look_up: LookUp | None = None,
    reason: str | None = None,
    alone: bool = False,
    word: str = "",
) -> _Wording:
    flags = re.IGNORECASE | re.DOTALL | re.ASCII
    return _Wording(re.compile(product, flags), re.compile(description, flags), charge, kind, look_up, reason, alone, word)


def _resource(product: str, description: str, kind: str, look_up: LookUp, *, word: str = "") -> _Wording:
    return _wording(product, description, kind=kind, look_up=look_up, word=word)


def _account(product: str, description: str, reason: str, *, alone: bool = False, word: str = "") -> _Wording:
    reason = f"account-level: {reason}"
    return _wording(product, description, charge=Charge.ACCOUNT_LEVEL, kind="account", reason=reason, alone=alone, word=word)


_NAMED, _WHOLE = "(?P<name>.+)", "(?P<name>.*)"
_GIGABYTES = r"(?P<size>[\d.,]+ ?[KMGT]i?B)"
_PLACED = rf"(?P<name>.+) \((?P<region>[^()]*)\) {_GIGABYTES}"
_SIZED = r"(?P<name>.+) \((?P<size>[^()]*)\)"
_IPS = "(?:floating|reserved) ip(?:v[46])?s?"
_IPV4 = r"(?P<name>\d{1,3}(?:\.\d{1,3}){3})"
_IPV6 = r"(?P<name>[0-9a-f]*:[0-9a-f:.]+)"
_SERVICE_LOAD_BALANCER = re.compile("a[0-9a-f]{31}")  # the name that a Kubernetes Service's load balancer gets

# The first row that fits is taken: what is specific stands before what is general, and each resource product ends with a row for any
# description. Wordings come from public invoices, the API reference and client libraries; the ones that nobody has shown yet are marked.
_WORDINGS = (
    _wording("taxes", charge=Charge.TAX, kind="tax", reason="tax: {description}"),
    _wording("credits?", charge=Charge.CREDIT, kind="credit", reason="credit: {description}"),
    _wording(
        "droplets?\\b.*(aggregated|collective).*",
        charge=Charge.UNKNOWN,
        reason="droplets added up by size: this document does not name them, the invoice's items or CSV do",
    ),
    # The section that overages stand in was seen without its product name, hence under any product.
    _account(
        ".*",
        r"(?:.+ )?bandwidth overage(?: \(.*\))?",
        "bandwidth is a pool of the whole team, its overage belongs to no single droplet",
        alone=True,
        word="bandwidth overage",
    ),
    _account(
        ".*",
        r".+ overage \([^()]* @ [^()]*\)",
        "an overage of what the whole team may use ({description})",
        alone=True,
        word=" overage (",
    ),
    _account("(?:.* )?overages?", ".*", "an overage of what the whole team may use ({description})"),
    # Droplets, their backups and snapshots
    _resource("(?:droplet )?backups", r"(?P<name>.+) \([^()]*backup[^()]*\)", "droplet", LookUp.PARENT),
    _resource("(?:droplet )?backups", rf"{_PLACED}\b.*", "droplet", LookUp.PARENT),  # not seen: usage-based backups
    _resource("(?:droplet )?backups", _SIZED, "droplet", LookUp.PARENT),
    _resource("(?:droplet )?backups", _WHOLE, "droplet", LookUp.PARENT),
    _resource(
        "(?:(?:droplet|volume) )?snapshots|droplets|volumes",
        rf"{_PLACED} (?:\w+ )?snapshot",
        "snapshot",
        LookUp.NAME,
        word=" snapshot",
    ),
    _resource("(?:(?:droplet|volume) )?snapshots", _WHOLE, "snapshot", LookUp.NAME),
    _resource("(?:gpu )?droplets", _SIZED, "droplet", LookUp.NAME),  # "GPU Droplets" not seen
    _resource("(?:gpu )?droplets", _WHOLE, "droplet", LookUp.NAME),
    _resource("volumes", _PLACED, "volume", LookUp.NAME),
    _resource("volumes", _WHOLE, "volume", LookUp.NAME),
    # Network
    _resource(_IPS, rf"(?:.*\s)?{_IPV4}", "reserved_ip", LookUp.IP),
    _resource(_IPS, rf"(?:.*\s)?{_IPV6}", "reserved_ipv6", LookUp.IP),  # not seen
    _resource(_IPS, _WHOLE, "reserved_ip", LookUp.NAME),
    _resource("load balancers", _WHOLE, "load_balancer", LookUp.NAME),
    # Products whose lines stand in groups: the group is the resource, the description a part of it, in whatever words. Without a group
    # the line names nobody: a part (of an app, say) can be called as another app is.
    _resource("kubernetes clusters", ".*", "k8s_cluster", LookUp.GROUP),  # node pools, load balancers of Services; high availability
    _resource("database clusters", ".*", "managed_db", LookUp.GROUP),  # nodes, storage, replicas: wordings not seen
    _resource("app platform", ".*", "app", LookUp.GROUP),  # components: wordings not seen
    _resource("functions", _WHOLE, "function_namespace", LookUp.NAME),
    # Products that no public invoice shows: their names are the provider's, the wordings those of their likes
    _resource("(?:vpc )?nat gateways?", rf"{_NAMED} \((?P<region>[^()]*)\)", "nat_gateway", LookUp.NAME),
    _resource("(?:vpc )?nat gateways?", _WHOLE, "nat_gateway", LookUp.NAME),
    _resource("network file (?:storage|system)s?|nfs", _PLACED, "nfs_share", LookUp.NAME),
    _resource("network file (?:storage|system)s?|nfs", _WHOLE, "nfs_share", LookUp.NAME),
    *(
        _resource(product, description, kind, LookUp.NAME)
        for product, kind in (
            ("dedicated inference", "dedicated_inference"),
            ("vector databases?", "vector_database"),
            ("add-?ons?", "addon"),
        )
        for description in (_SIZED, _WHOLE)
    ),
    # Of the account as a whole
    _account("spaces subscription", r"spaces \(\$.*", "the Spaces subscription pays for all buckets together"),
    # Since August 2024 usage is broken down by bucket (https://docs.digitalocean.com/platform/billing/), in words not seen.
    _account(
        "spaces(?: (?:subscription|storage|bandwidth|transfer))?",
        ".*",
        "part of the Spaces subscription, in words that are not known to name a bucket ({description})",
    ),
    _account("container registry subscription", ".*overage.*", "registry storage beyond the plan, all registries together"),
    _account("container registry subscription", ".*", "the registry subscription pays for all registries together"),
    _account("uptime health checks?|uptime", ".*", "uptime checks are billed by their number, the line names none"),
    _account("(?:.* )?support(?: (?:plan|subscription)s?)?", ".*", "support is for the whole team"),  # not seen
    _account("genai(?: platform)?|(?:serverless )?inference", ".*", "GenAI usage is billed for the account by model ({description})"),
)


def meaning_of(product: str, group_description: str, description: str, *, is_negative: bool, has_id: bool) -> Meaning:
    """What a line of this product and these texts pays for.

    `is_negative` is said of its amount; `has_id` says whether the line carries a provider id. A negative amount with neither id nor group,
    under a product that is no resource's, is a credit; negative rows of resources (databases have them) stay with their resource. A
    product that the table does not know gives UNKNOWN. Takes any text.
    """
    product, group, description = product.strip(), group_description.strip(), description.strip()
    alone, lowered = not has_id and not group, description.lower()
    for wording in _wordings_of(product):
        if wording.word not in lowered or (wording.alone and not alone):
            continue
        match = wording.description.fullmatch(description)
        if match is None:
            continue
        if wording.charge is Charge.RESOURCE:
            return _resource_meaning(wording, match.groupdict(), group, description)
        if wording.charge is Charge.ACCOUNT_LEVEL and alone and is_negative:
            break
        return _no_resource(wording.charge, wording.kind, wording.reason or "", description or product)
    if alone and is_negative:
        return _no_resource(Charge.CREDIT, "credit", "credit: {description}", description or product)
    return _no_resource(Charge.UNKNOWN, None, "unknown product '{description}'" if product else "the line names no product", product)


@lru_cache(maxsize=1024)
def _wordings_of(product: str) -> tuple[_Wording, ...]:
    product = " ".join(product.split())
    return tuple(wording for wording in _WORDINGS if wording.product.fullmatch(product))


def _resource_meaning(wording: _Wording, parsed: dict[str, str | None], group: str, description: str) -> Meaning:
    name, component = (parsed.get("name") or "").strip(), None
    if wording.look_up is LookUp.GROUP:
        name = group
        component = f"load balancer {description}" if _SERVICE_LOAD_BALANCER.fullmatch(description) else description or None
    return Meaning(
        charge=wording.charge,
        kind=wording.kind,
        name=name or None,
        region=(parsed.get("region") or "").strip() or None,
        size=(parsed.get("size") or "").strip() or None,
        look_up=wording.look_up if name else None,
        component=component,
    )


def _no_resource(charge: Charge, kind: str | None, reason: str, text: str) -> Meaning:
    shown = " ".join(text.split()) or "a line without text"
    shown = shown if len(shown) <= 120 else f"{shown[:119]}…"
    return Meaning(
        charge=charge,
        kind=kind,
        name=None,
        region=None,
        size=None,
        look_up=None,
        reason=reason.replace("{description}", shown),
    )
