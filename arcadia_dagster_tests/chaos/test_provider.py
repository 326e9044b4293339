"""Every fault of the provider on every kind of request, over whole runs: nothing is wrongly struck or lost, every failure has a name, and
the next clean sync leaves the ledger of an account that nothing ever happened to.

`make test` tries a few, chosen by CHAOS_SEED; with CHAOS=all it is all of them, with CHAOS=quick every fault on one kind for each way that
lists are cut into pages, on the walk of the projects and on what is billed.
"""

import json
import os
import random
import re
import resource
from collections import Counter

import pytest

from arcadia_dagster.digitalocean.kinds import KINDS
from arcadia_dagster_tests.chaos import tls, world
from arcadia_dagster_tests.chaos.faults import BY_NAME, FAULTS, FaultyServer, Target

ALL, QUICK, SEED = os.environ.get("CHAOS") == "all", os.environ.get("CHAOS") == "quick", int(os.environ.get("CHAOS_SEED", "1"))

_OF_KINDS = {
    kind.asset: Target(kind.asset, re.sub(r"\{\w+\}", "[^/]+", kind.path), kind.key) for kind in KINDS.values() if kind.asset is not None
}
_INVOICE = r"/v2/customers/my/invoices"
_OTHERS = [
    Target("project_resources", r"/v2/projects/[^/]+/resources", "resources"),
    Target("regions", r"/v2/regions", "regions"),
    Target("pool members", r"/v2/droplets/autoscale/[^/]+/members", "droplets"),
    Target("invoices", _INVOICE, "invoices", per_page="200"),
    Target("billing history", r"/v2/customers/my/billing_history", "billing_history"),
    Target("invoice items", _INVOICE + r"/(?!preview)[^/]+", "invoice_items"),
    Target("invoice CSV", _INVOICE + r"/[^/]+/csv"),
    Target("preview", _INVOICE, None, per_page="1"),
    Target("preview items", _INVOICE + r"/preview", "invoice_items"),
    Target("balance", r"/v2/customers/my/balance"),
    Target("account", r"/v2/account"),
]
TARGETS = _OF_KINDS | {target.name: target for target in _OTHERS}
# The asset that asks, where it is not called like the target, and the assets that go without what the target says.
ASKED_BY = {
    "regions": "nfs_shares", "pool members": "droplets", "billing history": "invoices", "invoice items": "cost_lines",
    "invoice CSV": "cost_lines", "preview": "invoice_preview", "preview items": "invoice_preview", "balance": "balance_snapshots",
}  # fmt: skip
GO_WITHOUT = {
    "droplets": {"droplet_backups"}, "databases": {"database_replicas"}, "regions": {"nfs_snapshots"},
    "projects": {"project_resources", "spaces_buckets"}, "project_resources": {"spaces_buckets"},
    "invoices": {"invoice_preview", "cost_lines"}, "billing history": {"invoice_preview", "cost_lines"},
}  # fmt: skip
# What others are read along with is attacked apart from them.
_APART = [
    ["droplets", "databases", "regions", "project_resources", "pool members", "invoice CSV", "preview"],
    ["projects", "autoscale_pools", "invoices"],
    ["droplet_backups", "spaces_buckets", "database_replicas", "nfs_shares", "nfs_snapshots", "billing history"],
    ["account"],
]
GROUPS = [[name for name in TARGETS if not any(name in group for group in _APART)], *_APART]


def note(**row):
    """A row for the table that `report.py` prints."""
    if os.environ.get("CHAOS_RESULTS"):
        with open(os.environ["CHAOS_RESULTS"], "a") as file:
            file.write(json.dumps(row) + "\n")


def applies(fault, target):
    return target.key is not None or not fault.lists_only


def attack(fault, names, *, before, undisturbed, copy_of_before, monkeypatch, folder, neighbours=None):
    """One sync under the fault, done to the requests of these targets, then a clean one; what is wrong, as sentences.

    `neighbours` are the assets that are run besides those attacked; None: all there are.
    """
    now = world.account_now()
    targets = [TARGETS[name] for name in names if applies(fault, TARGETS[name])]
    if not targets:
        return []
    touched = {ASKED_BY.get(target.name, target.name) for target in targets}
    without = set().union(*(GO_WITHOUT.get(target.name, set()) for target in targets))
    scope = None if neighbours is None else sorted(_with_what_they_need(touched | without | set(neighbours)) & world.JOB_OF.keys())
    https = fault.wire in (tls.UNTRUSTED, tls.BROKEN)
    with FaultyServer([now], https=folder if https else None) as served:
        if https:
            monkeypatch.setenv("SSL_CERT_FILE", str(served.front.trusted))
        runs = world.Runs(copy_of_before, served, now.token, monkeypatch, hurry=fault.hurry)
        try:
            mark = runs.rows("select coalesce(max(sync_run_id), 0) from arcadia.cloud_sync_runs")[0][0]
            served.attack(fault, targets)
            failed = runs.everything(scope)
            hit, after = set(served.hit), world.contents(runs.engine)
            outcomes = {
                target.name: judge(fault, target, runs, mark, failed, before, after, undisturbed)
                for target in targets
                if target.name in hit
            }
            wrong = [f"{name}: {problem}" for name, (_, problems) in outcomes.items() for problem in problems]
            wrong += bystanders(fault, hit, failed, after, undisturbed, scope)
            wrong += money(before, after)
            served.relent()
            failed = runs.everything(scope)
            wrong += [f"the clean sync failed: {asset}: {sentence}" for asset, sentence in failed.items()]
            wrong += healed(fault, world.contents(runs.engine), undisturbed, scope)
        finally:
            runs.close()
    for name, (outcome, problems) in outcomes.items():
        note(fault=fault.name, target=name, outcome=outcome, wrong=problems)
    note(fault=fault.name, target=None, outcome=None, wrong=wrong)
    return wrong


def _with_what_they_need(assets):
    """Buckets are known from the walk, which walks the projects that the ledger knows; the new server's are not those of before."""
    return assets | ({"projects", "project_resources"} if assets & {"spaces_buckets", "project_resources"} else set())


def judge(fault, target, runs, mark, failed, before, after, undisturbed):
    """What became of one target: (named, healed, told or flagged; what is wrong about that)."""
    asset = ASKED_BY.get(target.name, target.name)
    sentence = failed.get(asset)
    problems = []
    if sentence and (sentence.startswith("UNNAMED") or not re.search(fault.words, sentence)):
        problems.append(f"its failure has no sentence of ours, or it does not say {fault.words!r}: {sentence}")
    kinds = {world.KIND_OF[name] for name in {asset, *GO_WITHOUT.get(target.name, ())} if name in world.KIND_OF}
    for kind in kinds:
        problems += strikes(fault, kind, before, after, undisturbed)
    if target.name == "account":
        return "named" if failed else "healed", problems
    if target.name == "pool members":  # a warning: it says who made a droplet, which does not change
        return "healed" if sentence is None else "named", problems
    if asset in ("invoice_preview", "balance_snapshots", "cost_lines"):
        if asset == "cost_lines" and sentence is None and runs.rows("select 1 from arcadia.cloud_invoices where discrepancy <> ''"):
            return "flagged", problems
        if sentence is None and (fault.name == "empty" or (fault.name == "item twice" and target.name == "preview items")):
            return "told", problems  # previews are read anew each time, and equal lines are legal
        outcome = "healed" if sentence is None else "named"
        return outcome, problems + ([] if outcome in fault.outcomes | {"told"} else [f"it was {outcome}"])
    kind = "invoice" if asset == "invoices" else world.KIND_OF[asset]
    read = runs.rows(
        "select complete, error, finished_at from arcadia.cloud_sync_runs where kind = :kind and sync_run_id > :mark order by sync_run_id",
        kind=kind,
        mark=mark,
    )
    problems += [f"a sync run of {kind} was left open" for row in read if row.finished_at is None]
    problems += [f"an incomplete sync run of {kind} says no reason" for row in read if not row.complete and not row.error]
    if not read:
        return "named", [*problems, f"no sync run of {kind} was made"]
    if not read[-1].complete:
        outcome = "named"
        if sentence is None:
            problems.append(f"the sync run says {read[-1].error!r} and yet the step succeeded")
    else:
        different = world.difference(undisturbed, after, tables=["resources", "strikes", "memberships"], of={kind})
        outcome = "told" if different and "told" in fault.outcomes else "healed"
        if different and outcome == "healed":
            problems += [f"complete, but {line}" for line in different[:3]]
    # An invoice is never missed, so a list of none says nothing.
    if outcome not in fault.outcomes and not (fault.name == "empty" and (outcome == "named" or kind == "invoice")):
        problems.append(f"it was {outcome}")
    return outcome, problems


def strikes(fault, kind, before, after, undisturbed):
    """Nothing that is there is struck; what is gone, no more than once, and tombstoned only if it is the third strike."""
    was, now, truth = ({row[1]: (int(row[2]), row[3] == "True") for row in ledger["strikes"] if row[0] == kind}
                       for ledger in (before, after, undisturbed))  # fmt: skip
    problems = []
    for provider_id, (count, gone) in now.items():
        count_before, gone_before = was.get(provider_id, (0, False))
        count_true, gone_true = truth.get(provider_id, (0, False))
        if fault.name == "empty":
            wrong = count > count_before + 1 or (gone and not gone_before and count_before < 2)
        elif fault.name == "item vanishes":  # it was really gone for that time
            wrong = gone and not gone_before and not gone_true and count_before < 2
            wrong = wrong or sum(c > truth.get(p, (0, 0))[0] and c > was.get(p, (0, 0))[0] for p, (c, _) in now.items()) > 1
        else:
            wrong = (count > count_before and count > count_true) or (gone and not gone_before and not gone_true)
        if wrong:
            problems.append(f"{kind} {provider_id}: {count_before} strikes became {count}{', tombstoned' if gone else ''}")
    problems += [f"{kind} {provider_id} is no longer in the ledger" for provider_id in was.keys() - now.keys()]
    return problems


def bystanders(fault, hit, failed, after, undisturbed, scope):
    """What is wrong with the kinds that were not attacked: they must be as if nothing had happened."""
    if "account" in hit:
        return []
    excused = {ASKED_BY.get(name, name) for name in hit} | set().union(*(GO_WITHOUT.get(name, set()) for name in hit))
    problems = [
        f"{asset} failed as well: {sentence}" for asset, sentence in failed.items() if asset not in excused | {"matched_cost_lines"}
    ]
    kinds = {world.KIND_OF[asset] for asset in (scope or world.KIND_OF) if asset in world.KIND_OF and asset not in excused}
    for table in ("resources", "strikes"):
        problems += world.difference(undisturbed, after, tables=[table], of=kinds - {"project_resource"})
    return problems[:10]


def money(before, after):
    """No invoice and no line of one that was there before is lost or has another amount."""
    problems = []
    for table, width in (("invoices", 5), ("lines", 6)):
        was, now = ({row[:width] for row in ledger[table] if not row[1].startswith("preview:")} for ledger in (before, after))
        problems += [f"{table}: lost or changed: {row}" for row in sorted(was - now)]
    return problems[:5]


def healed(fault, after, undisturbed, scope):
    if fault.name.startswith("ids as"):  # the documents that were kept are those that came, with other digests
        after, undisturbed = ({**said, "invoices": Counter(row[:13] for row in said["invoices"])} for said in (after, undisturbed))
    if "told" in fault.outcomes:  # a name that was told wrongly is one that the thing had for a while, as it would be had it been true
        after, undisturbed = ({**said, "names": Counter(row for row in said["names"] if row[3] == "True")} for said in (after, undisturbed))
    if scope is None:
        # Likewise, what was told wrongly and then rightly is two events.
        without = ("events",) if "told" in fault.outcomes or fault.name.startswith("ids as") else ()
        return [f"not healed: {line}" for line in world.difference(undisturbed, after, without=without)[:12]]
    kinds = {world.KIND_OF[asset] for asset in scope if asset in world.KIND_OF} | ({"invoice"} if "invoices" in scope else set())
    return [
        f"not healed: {line}"
        for line in world.difference(undisturbed, after, tables=["resources", "strikes", "names", "invoices"], of=kinds)[:12]
    ]


_QUICK = [
    (["volumes", "databases", "vector_databases", "genai_agents", "invoice CSV"], ["uptime_checks", "invoices"]),
    (["project_resources", "invoice items", "preview items", "balance"], ["projects", "invoices"]),
]


def _cells():
    if ALL:
        return [(fault.name, group, None if group is GROUPS[0] else ["volumes", "invoices"]) for group in GROUPS for fault in FAULTS]
    if QUICK:
        return [(fault.name, *cell) for fault in FAULTS for cell in _QUICK]
    chance = random.Random(SEED)
    chosen = chance.sample([fault for fault in FAULTS if fault.hurry <= 60], 4)
    return [(fault.name, (names := chance.sample(GROUPS[0], 6))[:4], names[4:]) for fault in chosen]


@pytest.fixture(scope="session")
def said_before(postgres_server, ledger_before):
    from arcadia_dagster.ledger.schema import connect

    engine = connect(postgres_server.set(database=ledger_before))
    try:
        return world.contents(engine)
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("fault", "names", "neighbours"), [pytest.param(*cell, id=f"{cell[0]}-{cell[1][0].replace(' ', '_')}") for cell in _cells()]
)
def test_a_provider_that_misbehaves_costs_nothing_but_time(
    fault, names, neighbours, said_before, undisturbed, copy_of_before, monkeypatch, tmp_path
):
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrong = attack(BY_NAME[fault], names, before=said_before, undisturbed=undisturbed, copy_of_before=copy_of_before,
                   monkeypatch=monkeypatch, folder=tmp_path, neighbours=neighbours)  # fmt: skip
    assert wrong == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 400 * 1024  # KB; of both sides, as the server is in this process
