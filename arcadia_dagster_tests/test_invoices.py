"""Invoice documents and the meaning of their lines: every sample file, every wording, and properties over any document."""

import csv
import io
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcadia_dagster.digitalocean import documents, invoices, products
from arcadia_dagster.digitalocean.documents import ItemsWriter, write_items
from arcadia_dagster.digitalocean.invoices import (
    Charge,
    InvoiceError,
    InvoiceLine,
    LookUp,
    Meaning,
    Reading,
    meaning_of,
)

DATA = Path(__file__).parent / "data" / "invoices"
SMALL = DATA / "composed_2025-10_small.csv"
HEADER = "product,group_description,description,hours,start,end,USD,project_name,category"
decode = msgspec.json.Decoder(float_hook=Decimal).decode
encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, kw_only=True)
class Read:
    """A CSV that has been read to its end."""

    lines: list[InvoiceLine]
    warnings: list[str]


def meaning(line: InvoiceLine) -> Meaning:
    has_id = bool(line.resource_id or line.resource_uuid)
    return meaning_of(line.product, line.group_description, line.description, is_negative=line.amount < 0, has_id=has_id)


def read_csv(document: bytes) -> Read:
    read = invoices.parse_csv(io.BytesIO(document))
    return Read(lines=[*read.lines], warnings=read.warnings)


def parse_items(items: Iterable[object]) -> list[InvoiceLine]:
    return [*invoices.parse_items(items)]


def read_items(item_list: list[dict[str, Any]]) -> list[InvoiceLine]:
    """The lines of items that have been sent as JSON."""
    return parse_items(decode(encode({"invoice_items": item_list}))["invoice_items"])


def difference(items: list[InvoiceLine], csv: list[InvoiceLine]) -> str | None:
    readings = [Reading(lambda lines=lines: lines) for lines in (items, csv)]
    for reading, lines in zip(readings, (items, csv), strict=True):
        assert [*reading] == lines
    return invoices.difference(*readings)


def sample(name: str) -> list[InvoiceLine]:
    return read_csv((DATA / name).read_bytes()).lines


def items() -> list[InvoiceLine]:
    return parse_items(decode((DATA / "composed_2025-10_small.items.json").read_bytes())["invoice_items"])


def one_row(row: str, header: str = HEADER) -> InvoiceLine:
    (line,) = read_csv(f"{header}\n{row}\n".encode()).lines
    return line


def refusal(document: bytes) -> str:
    with pytest.raises(InvoiceError) as error:
        read_csv(document)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


# --- sample files


@pytest.mark.parametrize(
    ("name", "count", "total"),
    [
        ("real_2019-01_8_columns.csv", 7, "122.11"),
        ("real_2020-07_9_columns.csv", 2, "3.27"),
        ("composed_2025-10_small.csv", 9, "62.39"),
        ("composed_header_only.csv", 0, "0"),
    ],
)
def test_sample_files_add_up(name, count, total):
    document = read_csv((DATA / name).read_bytes())
    assert (len(document.lines), sum(line.amount for line in document.lines)) == (count, Decimal(total))
    assert document.warnings == []
    assert [line.ordinal for line in document.lines] == list(range(1, count + 1))
    assert all(meaning(line).kind is not None for line in document.lines)


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("composed_bom_crlf.csv", None),
        ("composed_preamble.csv", None),
        ("composed_extra_column.csv", "line 1: column 10, 'region', is not known and was not read"),
        ("composed_reordered_columns.csv", "line 1: the columns stand in another order than product, "),
    ],
)
def test_the_same_invoice_in_another_form_reads_the_same(name, warning):
    document = read_csv((DATA / name).read_bytes())
    assert document.lines == sample(SMALL.name)
    assert len(document.warnings) == (warning is not None)
    assert all(sentence.startswith(warning) for sentence in document.warnings)


def test_a_real_row_is_read_in_full():
    line = sample("real_2019-01_8_columns.csv")[5]
    assert (line.product, line.group_description, line.description) == ("Droplets", "", "indra (s-2vcpu-4gb)")
    assert (line.hours, line.amount, line.project_name, line.category) == (446, Decimal("13.27"), "", "")
    assert line.started_at == datetime(2019, 1, 13, 9, 39, 51, tzinfo=UTC)
    assert line.ended_at == datetime(2019, 2, 1, tzinfo=UTC)
    assert line.started_at.tzinfo is UTC
    assert (line.resource_id, line.resource_uuid) == (None, None)


def test_csv_and_items_of_one_invoice_mean_what_was_expected():
    with (DATA / "composed_2025-10_small.expected.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    names = {"name": LookUp.NAME, "parent droplet name": LookUp.PARENT, "IP in text": LookUp.IP}
    for lines in (sample(SMALL.name), items()):
        for line, row in zip(lines, expected, strict=True):
            assert (line.product, line.description) == (row["product"], row["description"])
            assert meaning(line).kind == row["resource_kind"]
            method = row["match_method"].replace(", not in inventory", "").replace("snapshot ", "").replace("+region", "")
            assert meaning(line).look_up == names.get(method)


def test_items_of_the_documentation_carry_either_id():
    read = parse_items(
        decode(
            b"""[
  {"product": "Kubernetes Clusters", "resource_uuid": "711157cb-37c8-4817-b371-44fa3504a39c", "group_description": "my-doks-cluster",
   "description": "a56e086a317d8410c8b4cfd1f4dc9f82", "amount": "12.34", "duration": "744", "duration_unit": "Hours",
   "start_time": "2020-01-01T00:00:00Z", "end_time": "2020-02-01T00:00:00Z"},
  {"product": "Droplets", "resource_id": 1234, "resource_uuid": "droplet-1234-uuid", "description": "My Example Droplet",
   "amount": 12.34},
  {"amount": "-5.00", "product": null, "resource_id": null, "resource_uuid": "", "description": null}
]"""
        )
    )
    cluster, droplet, credit = read
    assert (cluster.resource_id, cluster.resource_uuid) == (None, "711157cb-37c8-4817-b371-44fa3504a39c")
    assert (meaning(cluster).name, meaning(cluster).component) == ("my-doks-cluster", "load balancer a56e086a317d8410c8b4cfd1f4dc9f82")
    assert (droplet.resource_id, droplet.resource_uuid, droplet.amount) == ("1234", "droplet-1234-uuid", Decimal("12.34"))
    assert (droplet.hours, droplet.started_at, droplet.project_name, droplet.category) == (None, None, "", "")
    assert meaning(droplet).name == "My Example Droplet"
    assert (credit.product, credit.description, meaning(credit).charge) == ("", "", Charge.CREDIT)


# --- what texts mean

CLUSTER_BALANCER = "a56e086a317d8410c8b4cfd1f4dc9f82"
RESOURCES = [
    # product, group, description -> kind, look_up, name, region, size, component
    ("Droplets", "", "indra (s-2vcpu-4gb)", "droplet", "name", "indra", None, "s-2vcpu-4gb", None),  # 2019
    ("Droplets", "", "Web (c-4-8GiB)", "droplet", "name", "Web", None, "c-4-8GiB", None),
    ("Droplets", "", "Abuntu (s-1vcpu-1gb-35gb-intel)", "droplet", "name", "Abuntu", None, "s-1vcpu-1gb-35gb-intel", None),
    ("Droplets", "", "OPENVPN (512MB)", "droplet", "name", "OPENVPN", None, "512MB", None),  # 2017
    ("Droplets", "", "text (x) (s-1vcpu-1gb)", "droplet", "name", "text (x)", None, "s-1vcpu-1gb", None),
    ("Droplets", "", "train (gpu-h100x1-80gb)", "droplet", "name", "train", None, "gpu-h100x1-80gb", None),
    ("GPU Droplets", "", "train (gpu-h100x1-80gb)", "droplet", "name", "train", None, "gpu-h100x1-80gb", None),
    ("Droplets", "GPU Droplets", "train (gpu-h100x1-80gb)", "droplet", "name", "train", None, "gpu-h100x1-80gb", None),
    ("Droplets", "", "My Example Droplet", "droplet", "name", "My Example Droplet", None, None, None),
    (" droplets ", "", " a (b) ", "droplet", "name", "a", None, "b", None),
    ("Droplets", "", "", "droplet", None, None, None, None, None),
    ("Droplet Backups", "", "vault-p01 (Weekly Backup Services)", "droplet", "parent", "vault-p01", None, None, None),
    ("Droplet Backups", "", "a (b) (Daily Backup Services)", "droplet", "parent", "a (b)", None, None, None),
    ("Droplet Backups", "", "web (fra1) 12.50GiB Weekly Backup", "droplet", "parent", "web", "fra1", "12.50GiB", None),
    ("Backups", "", "web (s-1vcpu-1gb)", "droplet", "parent", "web", None, "s-1vcpu-1gb", None),
    ("Backups", "", "web (Weekly Backup Services)", "droplet", "parent", "web", None, None, None),
    ("Droplet Backups", "", "web", "droplet", "parent", "web", None, None, None),
    (
        "Droplet Snapshots", "", "vault-p01-1707755441748 (fra1) 10.15GB Droplet Snapshot",
        "snapshot", "name", "vault-p01-1707755441748", "fra1", "10.15GB", None,
    ),
    (
        "Droplet Snapshots", "", "marshall-1698786725800 (syd1) 3.18GB Droplet Snapshot",
        "snapshot", "name", "marshall-1698786725800", "syd1", "3.18GB", None,
    ),
    ("Droplet Snapshots", "", "a (b), \"c\" (syd1) 3GB Droplet Snapshot", "snapshot", "name", 'a (b), "c"', "syd1", "3GB", None),
    ("Droplet Snapshots", "", "before the move", "snapshot", "name", "before the move", None, None, None),
    ("Volume Snapshots", "", "s (fra1) 1.50GB Volume Snapshot", "snapshot", "name", "s", "fra1", "1.50GB", None),
    ("Snapshots", "", "s (fra1) 1.50GiB Snapshot", "snapshot", "name", "s", "fra1", "1.50GiB", None),
    ("Volumes", "", "s (fra1) 1.50GB Volume Snapshot", "snapshot", "name", "s", "fra1", "1.50GB", None),
    ("Volumes", "", "volume-sfo2-01 (sfo2) 100GB", "volume", "name", "volume-sfo2-01", "sfo2", "100GB", None),
    (
        "Volumes", "", "pvc-7724db7c-e098-11e5-b522-000f53304e51 (sfo2) 10GB",
        "volume", "name", "pvc-7724db7c-e098-11e5-b522-000f53304e51", "sfo2", "10GB", None,
    ),
    ("Volumes", "", "data", "volume", "name", "data", None, None, None),
    (
        "Kubernetes Clusters", "c1", "3 nodes - 4 GB / 2 vCPU / 80 GB SSD",
        "k8s_cluster", "group", "c1", None, None, "3 nodes - 4 GB / 2 vCPU / 80 GB SSD",
    ),
    ("Kubernetes Clusters", "c1", "High Availability", "k8s_cluster", "group", "c1", None, None, "High Availability"),
    ("Kubernetes Clusters", "c1", CLUSTER_BALANCER, "k8s_cluster", "group", "c1", None, None, f"load balancer {CLUSTER_BALANCER}"),
    ("Kubernetes Clusters", "c1", "", "k8s_cluster", "group", "c1", None, None, None),
    # Without their group these name a part only, and a part may be called as another resource is.
    ("Kubernetes Clusters", "", CLUSTER_BALANCER, "k8s_cluster", None, None, None, None, f"load balancer {CLUSTER_BALANCER}"),
    ("Kubernetes Clusters", "", "1 node - 2 GB", "k8s_cluster", None, None, None, None, "1 node - 2 GB"),
    ("Kubernetes Clusters", "", "c1", "k8s_cluster", None, None, None, None, "c1"),
    ("App Platform", "", "shop", "app", None, None, None, None, "shop"),
    ("Load Balancers", "", "My Example Load Balancer", "load_balancer", "name", "My Example Load Balancer", None, None, None),
    ("Load Balancers", "HTTP Load Balancers", "lb-1", "load_balancer", "name", "lb-1", None, None, None),  # the group is no resource
    ("Load Balancers", "", "", "load_balancer", None, None, None, None, None),
    ("Database Clusters", "pg-1", "standby", "managed_db", "group", "pg-1", None, None, "standby"),
    ("Database Clusters", "pg-1", "pg-1-read (db-s-1vcpu-1gb)", "managed_db", "group", "pg-1", None, None, "pg-1-read (db-s-1vcpu-1gb)"),
    ("App Platform", "shop", "web", "app", "group", "shop", None, None, "web"),
    ("App Platform", "shop", "Bandwidth Overage (1GB)", "app", "group", "shop", None, None, "Bandwidth Overage (1GB)"),
    ("Functions", "", "fn-1", "function_namespace", "name", "fn-1", None, None, None),
    ("Floating IPs", "", "Unused Floating IP - 1.1.1.1", "reserved_ip", "ip", "1.1.1.1", None, None, None),
    ("Reserved IPs", "", "Unused Reserved IP - 192.0.2.10", "reserved_ip", "ip", "192.0.2.10", None, None, None),
    ("Reserved IPs", "", "Unused Floating IP - 192.0.2.10", "reserved_ip", "ip", "192.0.2.10", None, None, None),
    ("Reserved IPs", "", "Unused Reserved IPv6 - 2001:db8::1", "reserved_ipv6", "ip", "2001:db8::1", None, None, None),
    ("Floating IPs", "", "one we gave back", "reserved_ip", "name", "one we gave back", None, None, None),
    # Products that no public invoice shows
    ("VPC NAT Gateways", "", "egress (blr1)", "nat_gateway", "name", "egress", "blr1", None, None),
    ("NAT Gateway", "", "egress", "nat_gateway", "name", "egress", None, None, None),
    ("Network File Storage", "", "media (blr1) 100GiB", "nfs_share", "name", "media", "blr1", "100GiB", None),
    ("NFS", "", "media", "nfs_share", "name", "media", None, None, None),
    ("Dedicated Inference", "", "mistral (gpu-h100x1-80gb)", "dedicated_inference", "name", "mistral", None, "gpu-h100x1-80gb", None),
    ("Dedicated Inference", "", "mistral", "dedicated_inference", "name", "mistral", None, None, None),
    ("Vector Database", "", "search", "vector_database", "name", "search", None, None, None),
    ("Vector Databases", "", "search (small)", "vector_database", "name", "search", None, "small", None),
    ("Add-Ons", "", "logs (starter)", "addon", "name", "logs", None, "starter", None),
    ("Add-Ons", "", "logs", "addon", "name", "logs", None, None, None),
]  # fmt: skip


@pytest.mark.parametrize("case", RESOURCES, ids=lambda case: f"{case[0]}: {case[2]}")
@pytest.mark.parametrize("amount", ["12.34", "0.00", "-0.68"])
@pytest.mark.parametrize("has_id", [True, False])
def test_every_wording_of_a_resource(case, amount, has_id):
    """A negative row of a resource is a correction of that resource's cost, no credit of the account."""
    product, group, description, kind, look_up, name, region, size, component = case
    meaning = meaning_of(product, group, description, is_negative=Decimal(amount) < 0, has_id=has_id)
    assert (meaning.charge, meaning.kind, meaning.look_up) == (Charge.RESOURCE, kind, look_up)
    assert (meaning.name, meaning.region, meaning.size, meaning.component) == (name, region, size, component)
    assert meaning.reason is None


NO_RESOURCES = [
    ("Taxes", "GST (18.00%)", "13.26", Charge.TAX, "tax", "tax: GST (18.00%)"),
    ("Taxes", "STATE SALES TAX (6.25%)", "-0.16", Charge.TAX, "tax", "tax: STATE SALES TAX (6.25%)"),
    ("Credits", "DigitalOcean Credit Applies", "-5.00", Charge.CREDIT, "credit", "credit: DigitalOcean Credit Applies"),
    ("Credits", "Promotion taken back", "5.00", Charge.CREDIT, "credit", "credit: Promotion taken back"),
    ("Promotion", "Inference Cloud Trial", "-5.00", Charge.CREDIT, "credit", "credit: Inference Cloud Trial"),
    ("GenAI Platform", "Inference Cloud Trial", "-5.00", Charge.CREDIT, "credit", "credit: Inference Cloud Trial"),
    ("Quantum", "", "-5.00", Charge.CREDIT, "credit", "credit: Quantum"),
    ("", "", "-5.00", Charge.CREDIT, "credit", "credit: a line without text"),
    *(
        (
            "Spaces Subscription", f"Spaces ($5/mo {wording})", "5.00", Charge.ACCOUNT_LEVEL, "account",
            "account-level: the Spaces subscription pays for all buckets together",
        )
        for wording in ("250GB storage & 1TB bandwidth", "250GiB storage & 1TiB bandwidth", "250GiB storage & 1TiB transfer")
    ),
    ("Spaces Subscription", "b-1 bandwidth", "0.10", Charge.ACCOUNT_LEVEL, "account", "b-1 bandwidth"),
    ("Spaces Bandwidth", "b-1", "0.10", Charge.ACCOUNT_LEVEL, "account", "b-1"),
    ("Premium Support", "Premium support plan", "499.00", Charge.ACCOUNT_LEVEL, "account", "support is for the whole team"),
    ("Support Plans", "Standard", "99.00", Charge.ACCOUNT_LEVEL, "account", "support is for the whole team"),
    ("Container Registry Subscription", "Container Registry (basic)", "5.00", Charge.ACCOUNT_LEVEL, "account", "all registries"),
    (
        "Container Registry Subscription", "Container Registry Storage Overage", "0.40", Charge.ACCOUNT_LEVEL, "account",
        "beyond the plan",
    ),
    ("Uptime Health Check", "check", "1.00", Charge.ACCOUNT_LEVEL, "account", "uptime checks"),
    ("GenAI Platform", "GenAI Serverless Inference - llama", "1.00", Charge.ACCOUNT_LEVEL, "account", "llama"),
    *(
        (
            product, "Droplet Bandwidth Overage (2825.36GB @ $0.01/GB)", "28.25", Charge.ACCOUNT_LEVEL, "account",
            "account-level: bandwidth is a pool of the whole team",
        )
        for product in ("Droplets", "Overages", "", "Bandwidth")
    ),
    ("Snapshots", "Something Overage (1 @ $1)", "1.00", Charge.ACCOUNT_LEVEL, "account", "Something Overage (1 @ $1)"),
    ("Overages", "Something (1 @ $1)", "1.00", Charge.ACCOUNT_LEVEL, "account", "Something (1 @ $1)"),
    ("Droplets - Aggregated by size", "s-1vcpu-1gb", "900.00", Charge.UNKNOWN, None, "does not name them"),
    ("Quantum", "qubit (q-1)", "1.00", Charge.UNKNOWN, None, "unknown product 'Quantum'"),
    ("Quantum", "qubit (q-1)", "0.00", Charge.UNKNOWN, None, "unknown product 'Quantum'"),
    ("", "", "1.00", Charge.UNKNOWN, None, "the line names no product"),
]  # fmt: skip


@pytest.mark.parametrize(("product", "description", "amount", "charge", "kind", "reason"), NO_RESOURCES)
def test_every_wording_that_is_no_resource(product, description, amount, charge, kind, reason):
    meaning = meaning_of(product, "", description, is_negative=Decimal(amount) < 0, has_id=False)
    assert (meaning.charge, meaning.kind) == (charge, kind)
    assert reason in meaning.reason
    assert (meaning.name, meaning.look_up) == (None, None)


@pytest.mark.parametrize("row", range(len(products._WORDINGS)))
def test_every_row_of_the_table_is_needed_by_a_line_above(row, monkeypatch):
    lines = [(case[0], case[1], case[2], Decimal(1)) for case in RESOURCES]
    lines += [(case[0], "", case[1], Decimal(case[2])) for case in NO_RESOURCES]

    def meanings():
        products._wordings_of.cache_clear()
        return [meaning_of(*texts, is_negative=amount < 0, has_id=False) for *texts, amount in lines]

    before = meanings()
    with monkeypatch.context() as patch:
        patch.setattr(products, "_WORDINGS", products._WORDINGS[:row] + products._WORDINGS[row + 1 :])
        without = meanings()
    products._wordings_of.cache_clear()
    assert without != before, products._WORDINGS[row]


@pytest.mark.parametrize("wording", [one for one in products._WORDINGS if one.word], ids=lambda one: one.word)
@settings(deadline=None)
@given(data=st.data())
def test_every_description_of_a_wording_holds_its_word(wording, data):
    description = data.draw(st.from_regex(wording.description, fullmatch=True))
    assert wording.word in description.lower()


@pytest.mark.parametrize(("group", "has_id"), [("cluster-1", False), ("", True)])
def test_a_negative_line_of_an_unknown_product_with_an_id_or_a_group_is_no_credit(group, has_id):
    meaning = meaning_of("Quantum", group, "qubit", is_negative=True, has_id=has_id)
    assert (meaning.charge, meaning.kind, meaning.reason) == (Charge.UNKNOWN, None, "unknown product 'Quantum'")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
PRODUCT = st.sampled_from(sorted({case[0] for case in RESOURCES} | {"Taxes", "Credits", "Spaces Subscription", "Uptime"})) | TEXT
DESCRIPTION = st.sampled_from([case[2] for case in RESOURCES]) | TEXT
CENTS = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**12) + 1, 10**12 - 1), st.integers(0, 10))


@settings(deadline=None)
@given(product=PRODUCT, group=TEXT, description=DESCRIPTION, amount=CENTS, has_id=st.booleans())
def test_any_text_has_a_meaning_that_is_explained(product, group, description, amount, has_id):
    meaning = meaning_of(product, group, description, is_negative=amount < 0, has_id=has_id)
    assert (meaning.reason is None) == (meaning.charge is Charge.RESOURCE)
    assert (meaning.kind is None) == (meaning.charge is Charge.UNKNOWN)
    assert (meaning.name is None) == (meaning.look_up is None)
    for text in (meaning.name, meaning.region, meaning.size, meaning.component, meaning.reason):
        assert text is None or (text and text == text.strip())


# --- cells


@pytest.mark.parametrize(
    ("printed", "amount"),
    [
        ("$3.11", "3.11"),
        ("3.11", "3.11"),
        ("$40", "40"),
        ("$0.00", "0.00"),
        ('"$1,234.56"', "1234.56"),
        ('"-$1,234,567.80"', "-1234567.80"),
        ("-$1.23", "-1.23"),
        ("$-1.23", "-1.23"),
        ("($1.23)", "-1.23"),
        ("(1.23)", "-1.23"),
        ("-1.23", "-1.23"),
        (" $1.50 ", "1.50"),
        ("$0.0000001", "0.0000001"),
    ],
)
def test_amounts_are_exact(printed, amount):
    line = one_row(f"Droplets,{printed},x", "product,USD,description")
    assert type(line.amount) is Decimal
    assert f"{line.amount:f}" == amount


@pytest.mark.parametrize(
    "printed",
    ["", " ", "free", "$", "-", "()", "--1", "-($1.00)", "-$-1.00", "($1.00", "$1.00)", "1.2.3", '"1,23"', '"1,2345.00"', "NaN",
     "Infinity", "-inf", "1e3", "1e999999", "$1.00 USD", "€1.00", "\u0661", "0x10", "1_000", "9" * 13, "0." + "1" * 11],
)  # fmt: skip
def test_unreadable_amounts_are_refused(printed):
    sentence = refusal(f"text\n{HEADER}\n\nDroplets,,web (s-1),,,,{printed},,\n".encode())
    assert sentence.startswith("line 4: ")
    assert "US dollars" in sentence
    assert "'web (s-1)'" in sentence
    with pytest.raises(InvoiceError, match=r"item 2: .*US dollars"):
        parse_items([{"amount": "1"}, {"amount": printed.strip('"')}])


@pytest.mark.parametrize(
    ("printed", "time"),
    [
        ("2020-07-22 18:14:39 +0000", datetime(2020, 7, 22, 18, 14, 39, tzinfo=UTC)),
        ("2020-07-22 18:14:39 +00:00", datetime(2020, 7, 22, 18, 14, 39, tzinfo=UTC)),
        ("2020-07-22 18:14:39 -0530", datetime(2020, 7, 22, 23, 44, 39, tzinfo=UTC)),
        ("2020-07-22T18:14:39Z", datetime(2020, 7, 22, 18, 14, 39, tzinfo=UTC)),
        ("2020-07-22T18:14:39.5Z", datetime(2020, 7, 22, 18, 14, 39, 500000, tzinfo=UTC)),
        ("2020-07-22T18:14:39.123456789+02:00", datetime(2020, 7, 22, 16, 14, 39, 123456, tzinfo=UTC)),
        ("", None),
        (" ", None),
        ("N/A", None),
        ("n/a", None),
    ],
)
def test_times_are_read_in_utc(printed, time):
    line = one_row(f"Droplets,,x,{'N/A' if time is None else '5'},{printed},{printed},$1,,")
    (item,) = parse_items([{"amount": "1", "start_time": printed, "end_time": printed}])
    assert [line.started_at, line.ended_at, item.started_at, item.ended_at] == [time] * 4
    assert time is None or line.started_at.tzinfo is UTC
    assert line.hours == (None if time is None else 5)


@pytest.mark.parametrize(
    ("printed", "what"),
    [
        ("2020-07-22 18:14:39", "is a time without its offset"),
        ("2020-07-22", "is a time without its offset"),
        ("yesterday", "is not a time"),
        ("2020-02-30 00:00:00 +0000", "is not a time"),
        ("2020-07-22 18:14:39 +9900", "is not a time"),
        ("0001-01-01 00:00:00 +0500", "is not a time"),
        ("9999-12-31 23:59:59 -0500", "is not a time"),
        ("1595441679", "is not a time"),
    ],
)
def test_unreadable_times_are_refused(printed, what):
    assert f"'{printed}' {what}" in refusal(f"{HEADER}\nDroplets,,x,1,2020-01-01T00:00:00Z,{printed},$1,,\n".encode())
    with pytest.raises(InvoiceError, match=f"item 1: .*{what}"):
        parse_items([{"amount": "1", "start_time": printed}])


def test_hours_that_are_no_number_are_refused():
    assert refusal(f"{HEADER}\nDroplets,,x,many,,,$1,,\n".encode()).startswith("line 2: 'many' is not a number of hours")


@pytest.mark.parametrize(("unit", "hours"), [("Hours", 744), ("hour", 744), ("", 744), (None, 744), ("Seconds", None), ("Backups", None)])
def test_a_duration_in_another_unit_is_not_taken_for_hours(unit, hours):
    (item,) = parse_items([{"amount": "1", "duration": "744", "duration_unit": unit}])
    assert item.hours == hours


# --- documents


def test_quoted_cells_hold_anything():
    line = one_row('Droplet Snapshots,,"a ""b"",\r\nc (lon1) 1GB Droplet Snapshot",1,,,"$1,000.00","x\ny",iaas')
    assert meaning(line).name == 'a "b",\r\nc'
    assert (line.amount, line.project_name) == (1000, "x\ny")


def test_zero_rows_are_kept_and_blank_lines_are_not_rows():
    row = "Database Clusters,pg,standby,,,,$0.00,,"
    document = read_csv(f"\n{HEADER}\n{row}\n\n{row}\n,,,,,,,,\n  \n{row}".encode())
    assert [line.ordinal for line in document.lines] == [1, 2, 3]


def test_header_names_are_found_in_any_case_and_absent_columns_are_empty():
    document = read_csv(b'"Usd" ,PRODUCT,description,\n$1,Droplets,web (s-1),\n')
    (line,) = document.lines
    assert (line.group_description, line.hours, line.started_at, line.project_name, line.category) == ("", None, None, "", "")
    assert [sentence.split(": ", 1)[1] for sentence in document.warnings] == [
        "column 4, '', is not known and was not read",
        "the columns stand in another order than product, description, USD; they were read by name",
        "the header has no column group_description, hours, start, end, project_name",
    ]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "line 1: the document is empty"),
        (b"\xef\xbb\xbf\r\n\r\n", "line 1: the document is empty"),
        (b"\nhello, world\n", "line 2: neither 'hello, world' nor any later line is the header"),
        (b"<!DOCTYPE html>\n<html>\n", "line 1: neither '<!DOCTYPE html>' nor any later line is the header"),
        (b"x\nproduct,group_description,description,hours,start,end,amount\n", "line 2: the header has no column USD"),
        (b"product,description,USD,usd\n", "line 1: the header names the column 'USD' twice"),
        (b"product,description,USD,x,x\n", "line 1: the header names the column 'x' twice"),
        (HEADER.encode() + b"\nDroplets,,web\n", "line 2: 'Droplets,,web' has 3 cells where the header has 9"),
        (HEADER.encode() + b"\nDroplets,,x,,,,$1,,,\n", "line 2: 'Droplets,,x,,,,$1,,,' has 10 cells where the header has 9"),
        (HEADER.encode() + b'\nDroplets,,"a\nb",,,,$1,,\nDroplets,,"x,,,,$1,,\n', "line 4: the row that begins here is not CSV"),
        (HEADER.encode() + b'\nDroplets,,"x"y,,,,$1,,\n', "line 2: the row that begins here is not CSV"),
        (HEADER.encode() + b"\nDroplets,,x,,,,$1,,\n" + HEADER.encode(), "line 3: 'hours' is not a number of hours"),
        (b"Volumes,,v (a) 1GB,1,,,$1,,\n" + HEADER.encode(), "line 1: 'v (a) 1GB' is an invoice row before the header on line 2"),
        (HEADER.encode() + b"\nDroplets,,\xff\xfe,,,,$1,,\n", "line 2: the bytes b'\\xff\\xfe,,,,$1' are not UTF-8"),
        (HEADER.encode() + b"\n\nDroplets,,a\0b,,,,$1,,\n", "line 3: there is a NUL character in 'Droplets,,a\\x00b,,,,$1,,'"),
        (HEADER.encode("utf-16"), "line 1: the bytes"),
        (HEADER.encode() + b"\nDroplets,," + b"x" * 200_000 + b",,,,$1,,\n", "line 2: the row that begins here is not CSV"),
    ],
)
def test_a_document_that_cannot_be_read_says_where_and_why(document, says):
    sentence = refusal(document)
    assert sentence.startswith(says)
    assert sentence.endswith("; download the CSV again and import it unedited")


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({}, "there is no amount of US dollars"),
        ({"amount": None}, "there is no amount of US dollars"),
        ({"amount": 12.34}, "amount is of type float, not a text"),
        ({"amount": True}, "amount is of type bool, not a text"),
        ({"amount": Decimal("NaN")}, "amount 'NaN' is no number"),
        ({"amount": Decimal("1e999999")}, "amount '1E+999999' is no number"),
        ({"amount": 10**5000}, "amount '1000"),
        ({"amount": "1", "product": ["Droplets"]}, "product is of type list, not a text"),
        ({"amount": "1", "description": "a\0b"}, "description is 'a\\x00b', which holds a character that no text may hold"),
        ({"amount": "1", "description": "\ud800"}, "description is '\\ud800', which holds a character that no text may hold"),
        (None, "it is of type NoneType, not an object"),
    ],
)
def test_an_item_that_cannot_be_read_is_named_by_its_number(item, says):
    with pytest.raises(InvoiceError) as error:
        parse_items([{"amount": "1.00"}, item])
    assert str(error.value).startswith(f"item 2: {says}")
    assert len(str(error.value)) < 400


# --- properties: whatever can be written reads back

OFFSET = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIME = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
LINE = st.fixed_dictionaries(
    {
        "product": PRODUCT,
        "group_description": TEXT,
        "description": DESCRIPTION,
        "hours": st.none() | st.integers(0, 10**6).map(Decimal) | CENTS,
        "started_at": st.none() | TIME,
        "ended_at": st.none() | TIME,
        "amount": CENTS,
        "project_name": TEXT,
        "category": TEXT,
    }
)
COLUMN_OF = {"started_at": "start", "ended_at": "end", "amount": "USD"}
OPTIONAL = ("group_description", "hours", "started_at", "ended_at", "project_name", "category")


def dollars(rng: random.Random, amount: Decimal) -> str:
    places = max(-amount.as_tuple().exponent, 0)
    digits = f"{abs(amount):{rng.choice([',', ''])}.{places}f}"
    if amount.is_signed():
        return rng.choice(["-${}", "$-{}", "(${})", "-{}", "({})"]).format(digits)
    return rng.choice(["${}", "{}"]).format(digits)


def clock(rng: random.Random, time: datetime, zone: timezone) -> str:
    local = time.astimezone(zone)
    if rng.random() < 0.5:
        return local.strftime("%Y-%m-%d %H:%M:%S" + (".%f" if time.microsecond else "") + " %z")
    return time.isoformat().replace("+00:00", "Z") if rng.random() < 0.5 else local.isoformat()


def cell(rng: random.Random, text: str) -> str:
    if rng.random() < 0.2 or any(mark in text for mark in '",\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


def plain(line: InvoiceLine) -> dict[str, object]:
    fields = msgspec.structs.asdict(line)
    del fields["ordinal"]
    return fields


@st.composite
def forms(draw: st.DrawFn) -> dict[str, Any]:
    """How a document may be written: which columns it lacks, which it has besides, what stands before the header, the time zone."""
    return {
        "absent": draw(st.sets(st.sampled_from(OPTIONAL))),
        "unknown": draw(st.sets(st.text("abcXYZ _-", min_size=1, max_size=8).filter(lambda name: name.strip() == name), max_size=2)),
        "preamble": draw(st.lists(TEXT, max_size=3)),
        "zone": draw(OFFSET),
        "rng": draw(st.randoms(use_true_random=False)),
    }


def as_csv(lines, *, absent, unknown, preamble, zone, rng) -> bytes:
    """The lines (field -> value) as a CSV: columns in any order and spelling, BOM, CRLF, text before the header, blank lines after."""
    fields = [name for name in lines[0] if name not in absent] if lines else ["product", "description", "amount"]
    columns = [*fields, *sorted(unknown)]
    rng.shuffle(columns)
    header = [rng.choice([str, str.upper, str.lower])(COLUMN_OF.get(column, column)) if column in fields else column for column in columns]
    rows = [header]
    for line in lines:
        printed = {name: rng.choice(["", "N/A"]) if value is None else value for name, value in line.items()}
        for name, value in line.items():
            if name == "amount":
                printed[name] = dollars(rng, value)
            elif isinstance(value, Decimal):
                printed[name] = f"{value:f}"
            elif isinstance(value, datetime):
                printed[name] = clock(rng, value, zone)
        rows.append([printed.get(column, 'any, "thing"') for column in columns])
    newline = rng.choice(["\n", "\r\n"])
    text = "".join(f"{line}{newline}" for line in preamble)
    text += newline.join(",".join(cell(rng, value) for value in row) + rng.choice(["", newline]) for row in rows)
    text += rng.choice(["", newline, newline * 2])
    return rng.choice([b"", b"\xef\xbb\xbf"]) + text.encode()


def as_items(lines, ids, *, zone, rng) -> list[dict[str, Any]]:
    """The lines as JSON items, with these (resource_id, resource_uuid): what is empty may be absent, null or "", numbers may be text."""
    written = []
    for line, (resource_id, resource_uuid) in zip(lines, ids, strict=False):
        item = {name: line[name] for name in ("product", "group_description", "description", "project_name", "category")}
        item |= {"duration": line["hours"], "duration_unit": "Hours", "resource_id": resource_id, "resource_uuid": resource_uuid}
        item |= {name: line[of] and clock(rng, line[of], zone) for name, of in (("start_time", "started_at"), ("end_time", "ended_at"))}
        if item["duration"] is not None and rng.random() < 0.5:
            item["duration"] = f"{line['hours']:f}"
        for name in [name for name, value in item.items() if value in (None, "")]:
            way = rng.choice(["absent", "null", "empty"])
            if way == "absent":
                del item[name]
            else:
                item[name] = None if way == "null" else ""
        item["amount"] = line["amount"] if rng.random() < 0.3 else f"{line['amount']:f}"
        written.append(item)
    return written


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(LINE, max_size=4), form=forms())
def test_any_line_in_any_csv_reads_back_exactly(lines, form):
    document = read_csv(as_csv(lines, **form))
    expected = [
        line | {name: None if name in ("hours", "started_at", "ended_at") else "" for name in form["absent"]}
        | {"resource_id": None, "resource_uuid": None}
        for line in lines
    ]  # fmt: skip
    assert [plain(line) for line in document.lines] == expected
    assert [f"{line.amount:f}" for line in document.lines] == [f"{line['amount']:f}" for line in lines]
    assert [line.ordinal for line in document.lines] == list(range(1, len(lines) + 1))
    assert sum("is not known" in sentence for sentence in document.warnings) == len(form["unknown"])


ID = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).map(str.strip).filter(bool)
IDS = st.lists(st.tuples(st.none() | ID, st.none() | ID), min_size=4, max_size=4)


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(LINE, max_size=4), ids=IDS, zone=OFFSET, rng=st.randoms(use_true_random=False))
def test_any_line_in_json_reads_back_exactly(lines, ids, zone, rng):
    read = read_items(as_items(lines, ids, zone=zone, rng=rng))
    assert [plain(line) for line in read] == [
        line | {"resource_id": resource_id, "resource_uuid": resource_uuid}
        for line, (resource_id, resource_uuid) in zip(lines, ids, strict=False)
    ]


# Whatever people may call their things, and what is hard in a CSV or in brackets.
NAME = (TEXT | st.text(st.sampled_from("ab (),\"'é名-.0\r\n"), max_size=12)).map(str.strip).filter(bool)
REGION = st.sampled_from(["fra1", "blr1", "nyc3"])
SIZE = st.sampled_from(["s-1vcpu-1gb", "512MB", "c-4-8GiB", "gpu-h100x1-80gb", "s-1vcpu-1gb-35gb-intel"])
GIGABYTES = st.builds("{}{}".format, st.decimals(0, 99_999, places=2) | st.integers(1, 16_384), st.sampled_from(["GB", "GiB", "TiB"]))
WORDINGS = [
    # product, group, description -> kind, and which of the parts are its name, region, size and component
    ("Droplets", "", "{name} ({size})", "droplet", "name size"),
    ("Droplet Backups", "", "{name} (Weekly Backup Services)", "droplet", "name"),
    ("Droplet Backups", "", "{name} (Daily Backup Services)", "droplet", "name"),
    ("Droplet Snapshots", "", "{name} ({region}) {gigabytes} Droplet Snapshot", "snapshot", "name region gigabytes"),
    ("Volume Snapshots", "", "{name} ({region}) {gigabytes} Volume Snapshot", "snapshot", "name region gigabytes"),
    ("Volumes", "", "{name} ({region}) {gigabytes}", "volume", "name region gigabytes"),
    ("Load Balancers", "HTTP Load Balancers", "{name}", "load_balancer", "name"),
    ("Kubernetes Clusters", "{name}", "3 nodes - 4 GB / 2 vCPU / 80 GB SSD", "k8s_cluster", "name"),
    ("Database Clusters", "{name}", "{component}", "managed_db", "name component"),
    ("App Platform", "{name}", "{component}", "app", "name component"),
    ("Functions", "", "{name}", "function_namespace", "name"),
    ("Reserved IPs", "", "Unused Floating IP - {ipv4}", "reserved_ip", "ipv4"),
    ("Reserved IPs", "", "Unused Reserved IP - {ipv6}", "reserved_ipv6", "ipv6"),
    ("VPC NAT Gateways", "", "{name} ({region})", "nat_gateway", "name region"),
    ("Network File Storage", "", "{name} ({region}) {gigabytes}", "nfs_share", "name region gigabytes"),
    ("Taxes", "", "{name} ({gigabytes}%)", "tax", ""),
]
PARTS = st.fixed_dictionaries(
    {
        "name": NAME, "component": NAME, "region": REGION, "size": SIZE, "gigabytes": GIGABYTES,
        "ipv4": st.ip_addresses(v=4).map(str), "ipv6": st.ip_addresses(v=6).map(str),
    }
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    worded=st.lists(st.tuples(st.sampled_from(WORDINGS), PARTS, LINE), min_size=1, max_size=4),
    ids=IDS,
    form=forms().map(lambda form: form | {"absent": form["absent"] & {"category", "hours"}}),
)
def test_any_name_in_any_wording_and_any_document_is_read_back(worded, ids, form):
    lines = [
        line | {"product": product, "group_description": group.format(**parts), "description": text.format(**parts)}
        for (product, group, text, _, _), parts, line in worded
    ]
    document = read_csv(as_csv(lines, **form))
    listed = read_items(as_items(lines, ids, zone=form["zone"], rng=form["rng"]))
    for of_csv, of_items, ((*_, kind, told), parts, _) in zip(document.lines, listed, worded, strict=True):
        told_parts = set(told.split())
        for meant in (meaning(of_csv), meaning(of_items)):
            assert meant.kind == kind
            assert meant.name == next((parts[part] for part in ("name", "ipv4", "ipv6") if part in told_parts), None)
            assert meant.region == (parts["region"] if "region" in told_parts else None)
            assert meant.size == next((parts[part] for part in ("size", "gigabytes") if part in told_parts), None)
            if "component" in told_parts:
                assert meant.component == parts["component"]
    assert difference(listed, document.lines) is None


# --- properties: whatever comes in, lines or one clear error


def lines_or_refusal(document: bytes) -> list[InvoiceLine] | None:
    try:
        return read_csv(document).lines
    except InvoiceError as problem:
        sentence = str(problem)
    assert sentence.startswith("line ")
    assert "\n" not in sentence
    assert len(sentence) < 600
    return None


@settings(deadline=None)
@given(st.binary() | st.binary().map(lambda tail: HEADER.encode() + b"\n" + tail))
def test_any_bytes_give_lines_or_one_clear_error(document):
    lines_or_refusal(document)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 1200), cut=st.integers(0, 40), put=st.binary(max_size=6) | st.sampled_from([b'"', b",", b"\n", b"\r", b"\0"]))
def test_a_damaged_document_gives_a_line_for_every_row_or_one_clear_error(at, cut, put):
    whole = SMALL.read_bytes()
    document = whole[:at] + put + whole[at + cut :]
    lines = lines_or_refusal(document)
    if lines is not None and b'"' not in put:
        rows = re.split(r"\r\n|\r|\n", document.decode("utf-8-sig"))
        header = next(
            number for number, row in enumerate(rows) if {"product", "description", "USD"} <= {name.strip() for name in row.split(",")}
        )
        assert len(lines) == sum(bool(row.replace(",", "").strip()) for row in rows[header + 1 :])


@settings(deadline=None)
@given(row=st.integers(0, 8), column=st.integers(0, 8))
def test_a_row_that_lacks_a_cell_is_never_lost(row, column):
    header, *rows = list(csv.reader(io.StringIO(SMALL.read_text(encoding="utf-8"))))
    del rows[row][column]
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    assert refusal(text.getvalue().encode()).startswith(f"line {row + 2}: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = ("product", "resource_id", "resource_uuid", "group_description", "description", "amount", "duration", "duration_unit",
          "start_time", "end_time", "project_name", "category")  # fmt: skip


@settings(deadline=None)
@given(st.lists(JSON | st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from(["1.00", "Droplets", "\ud800"])), max_size=3))
def test_any_items_give_as_many_lines_or_one_clear_error(any_items):
    try:
        lines = parse_items(any_items)
    except InvoiceError as problem:
        sentence = str(problem)
    else:
        assert len(lines) == len(any_items)
        return
    assert sentence.startswith("item ")
    assert "\n" not in sentence


class Dribble(io.RawIOBase):
    """The bytes of a document, a few with each read."""

    def __init__(self, document: bytes, rng: random.Random) -> None:
        self.bytes, self.rng = io.BytesIO(document), rng

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, *place: int) -> int:
        return self.bytes.seek(*place)

    def readinto(self, buffer: memoryview) -> int:
        part = self.bytes.read(self.rng.randint(1, min(len(buffer), 9)))
        buffer[: len(part)] = part
        return len(part)


PIECES = [b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"\xe2\x82", b"\xe2\x82\xac", b"\xef\xbb\xbf", b"product,description,USD\n",
          HEADER.encode() + b"\r\n", b"Droplets,,x (s),1,,,$1,,\n", b"Droplets,b,$1\n"]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    document=st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=10).map(b"".join)
    | st.builds(lambda at, put: SMALL.read_bytes()[:at] + put + SMALL.read_bytes()[at:], st.integers(0, 1200), st.sampled_from(PIECES)),
    chunk=st.integers(1, 50),
    rng=st.randoms(use_true_random=False),
)
def test_how_a_document_arrives_makes_no_difference(document, chunk, rng):
    def read(stream):
        try:
            read = invoices.parse_csv(stream)
            return [*read.lines], read.warnings
        except InvoiceError as problem:
            return str(problem)

    whole = read(io.BytesIO(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invoices, "_CHUNK", chunk)
        assert read(io.BufferedReader(Dribble(document, rng), chunk)) == whole


def test_the_bytes_that_are_no_text_are_shown_after_a_mark_of_the_byte_order_too():
    assert refusal(b"\xef\xbb\xbfproduct\nab\xff\xfecd").startswith("line 2: the bytes b'\\xff\\xfecd' are not UTF-8")


def test_a_stream_stays_open_and_can_be_read_again():
    stream = io.BytesIO(SMALL.read_bytes())
    first = invoices.parse_csv(stream)
    next(first.lines)
    assert [*invoices.parse_csv(stream).lines] == sample(SMALL.name)
    del first
    assert not stream.closed


@settings(deadline=None)
@given(
    items=st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | CENTS | st.none(), max_size=3), max_size=6),
    cuts=st.lists(st.integers(0, 6), max_size=3).map(sorted),
)
def test_items_are_the_same_document_however_they_are_cut_into_pages(items, cuts):
    at_once, in_pages = io.BytesIO(), io.BytesIO(b"x" * 1000)
    write_items(at_once, items)
    writer = ItemsWriter(in_pages)
    for start, stop in itertools.pairwise([0, *cuts, len(items)]):
        writer.add(items[start:stop])
    writer.end()
    assert in_pages.getvalue() == at_once.getvalue()
    assert len(writer) == len(items)
    assert [*documents.read_items(in_pages)] == decode(at_once.getvalue()) == items


# --- the two documents of one invoice


def test_documents_that_hold_the_same_lines_agree_in_any_order():
    lines = sample(SMALL.name)
    for seed in range(5):
        assert difference(items(), random.Random(seed).sample(lines, len(lines))) is None
    assert difference([], []) is None


def test_a_column_that_one_document_leaves_empty_is_not_compared():
    older = [msgspec.structs.replace(line, category="", hours=None) for line in sample(SMALL.name)]
    assert difference(items(), older) is None
    assert (
        difference([msgspec.structs.replace(line, started_at=line.started_at + timedelta(milliseconds=1)) for line in items()], older)
        is None
    )


def test_a_missing_line_is_named():
    lines = sample(SMALL.name)
    sentence = difference(items(), lines[:-1])
    assert sentence == (
        "the JSON items have 9 lines for $62.39, the CSV has 8 lines for $51.99;"
        " line 9 of the items, 'Taxes' 'VAT United Kingdom (20.00%)' $10.40, is not in the CSV"
    )
    assert "line 9 of the CSV, 'Taxes'" in difference(items()[:-1], lines)
    assert difference(items(), []).startswith("the JSON items have 9 lines for $62.39, the CSV has 0 lines for $0; line 1 of the items")


def test_lines_alike_are_counted():
    line = sample(SMALL.name)[0]
    other = msgspec.structs.replace(line, description="b")
    assert difference([line, line, other], [line, other, line]) is None
    assert "3 lines" in difference([line, line, other], [line, other, other])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", Decimal("24.01")),
        ("description", "shop-02 (s-2vcpu-4gb)"),
        ("product", "Volumes"),
        ("hours", Decimal(743)),
        ("ended_at", datetime(2025, 10, 31, tzinfo=UTC)),
        ("project_name", "else"),
        ("category", "paas"),
    ],
)
def test_a_field_that_differs_is_named(field, value):
    lines = sample(SMALL.name)
    changed = [msgspec.structs.replace(lines[0], **{field: value}), *lines[1:]]
    sentence = difference(items(), changed)
    assert sentence.endswith(f"is not in the items: they differ in {field}")
    assert "line 1 of the items" in sentence
    assert "\n" not in sentence


def made(description: str, amount: int, ordinal: int = 1) -> InvoiceLine:
    line = sample(SMALL.name)[0]
    return msgspec.structs.replace(line, product="P", description=description, amount=Decimal(amount), ordinal=ordinal)


def test_minus_one_is_not_minus_two():
    one, two = (made(description, amount) for description, amount in (("a", -1), ("b", -2)))
    other_one, other_two = (made(description, amount) for description, amount in (("a", -2), ("b", -1)))
    assert "they differ in amount" in difference([one, two], [other_one, other_two])


@settings(max_examples=200, deadline=None)
@given(
    documents=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), min_size=2, max_size=2),
    buckets=st.sampled_from([1, 2, 7, 1 << 16]),
)
def test_what_differs_is_found_however_little_is_kept(documents, buckets):
    """Against a count of all lines, held at once."""
    items, csv = ([made(text, 1, ordinal) for ordinal, text in enumerate(document, 1)] for document in documents)
    counts_of_items, counts_of_csv = map(Counter, documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invoices, "_BUCKETS", buckets)
        sentence = difference(items, csv)
    assert (sentence is None) == (counts_of_items == counts_of_csv)
    for lines, surplus, words in (
        (items, counts_of_items - counts_of_csv, "line {} of the items, 'P' '{}' $1, is not in the CSV"),
        (csv, counts_of_csv - counts_of_items, "line {} of the CSV, 'P' '{}' $1, is not in the items"),
    ):
        first = next((line for line in lines if line.description in surplus), None)
        assert first is None or words.format(first.ordinal, first.description) in sentence


def test_documents_that_differ_in_every_line_are_compared_without_keeping_them(monkeypatch):
    monkeypatch.setattr(invoices, "_LOOKED_INTO", 3)
    items, csv = ([made(f"{name}-{number}", 1, number) for number in range(1, 50)] for name in "ab")
    sentence = difference(items, csv)
    assert "line 1 of the items, 'P' 'a-1' $1, is not in the CSV; line 1 of the CSV, 'P' 'b-1' $1, is not in the items" in sentence


def test_sample_items_are_the_documented_shape():
    """The JSON sample has no id, so that the CSV and it can mean the same; `json` and msgspec read it alike."""
    text = (DATA / "composed_2025-10_small.items.json").read_text(encoding="utf-8")
    assert parse_items(json.loads(text, parse_float=Decimal)["invoice_items"]) == items()
