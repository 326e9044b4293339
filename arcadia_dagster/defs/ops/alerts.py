"""What a person is told of: jobs that fail or are late, and checks that ask for attention. One message when it begins, one when it is over.
Of several accounts each is told of by itself, and those that begin or end at one look, as when the provider is down, in one message.

Each look compares what is wrong now with what was wrong at the last one, as the sensor's cursor holds it; a message leaves the cursor only
once the webhook has taken it. What the checks find is decided where they are defined: an error reaches a person, and a warning does if its
result says so in a sentence, its description.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from arcadia_dagster import settings
from arcadia_dagster.defs.accounts import ACCOUNTS
from arcadia_dagster.defs.inventory.assets import LISTING_COMPLETE
from arcadia_dagster.defs.ops.webhook import WebhookError, post
from arcadia_dagster.defs.scheduling import SCHEDULED, newest_runs, patience

_TOLD = 3  # steps of a run, accounts of a message


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that is wrong now: what to say of it, what to say when it is over, and where to look in the UI."""

    problem: str
    over: str
    path: str
    group: str | None = None  # what has the same group is told together


@dataclass(kw_only=True)
class Incident:
    """A trouble from when it was first seen until both messages about it have been taken. Times are UTC, ISO 8601."""

    problem: str
    over: str
    path: str
    began: str
    group: str | None = None
    ended: str | None = None
    told: bool = False


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Posts to ARCADIA_ALERT_WEBHOOK when a job fails or is late, or a check asks for attention, and again when that is over.",
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Look at what is wrong and tell what is new. Asks Dagster's own storage only."""
    address = settings.alert_webhook()
    if address is None:
        return dg.SkipReason("Nobody is told of anything: set ARCADIA_ALERT_WEBHOOK (or ARCADIA_ALERT_WEBHOOK_FILE) where the code runs.")
    ui_url = settings.ui_url()
    now = datetime.now(UTC)
    state = json.loads(context.cursor or "{}")
    watching_since = state.get("watching_since", now.isoformat())
    accounts = {name: state.get("accounts", {}).get(name, now.isoformat()) for name in ACCOUNTS}
    since: dict[str | None, datetime] = {name: datetime.fromisoformat(moment) for name, moment in accounts.items()}
    since[None] = datetime.fromisoformat(watching_since)
    incidents = {key: Incident(**fields) for key, fields in state.get("incidents", {}).items()}
    for key, incident in incidents.items():
        account = "".join(key.split(":")[2:]) if key.startswith(("failed:", "late:")) else ""
        if account and account not in ACCOUNTS:
            incident.over = f"{account} is no longer in the accounts' file."
    _compare(incidents, dict(_troubles(context, now, since)), now)
    told, problem = 0, None
    for keys in _due_together(incidents):
        try:
            _tell(address, ui_url, keys, incidents)
            told += 1
        except WebhookError as error:
            problem = str(error)
            context.log.warning(f"The webhook of ARCADIA_ALERT_WEBHOOK took no message: {problem}. The next look tries again.")
            break
    kept = {key: asdict(incident) for key, incident in incidents.items()}
    waiting = sum(not incident.told or incident.ended is not None for incident in incidents.values())
    said = f"{told} messages sent, {waiting} waiting, {len(kept) - waiting} incidents open"
    return dg.SensorResult(
        skip_reason=f"{said}; the webhook took no message: {problem}." if problem else f"{said}.",
        cursor=json.dumps({"watching_since": watching_since, "accounts": accounts, "incidents": kept}),
    )


def _compare(incidents: dict[str, Incident], troubles: Mapping[str, Trouble], now: datetime) -> None:
    for key, trouble in troubles.items():
        if key not in incidents:
            incidents[key] = Incident(**asdict(trouble), began=now.isoformat())
        else:
            incidents[key].ended = None  # back before anybody was told that it was over
    for key, incident in incidents.items():
        if key not in troubles and incident.ended is None:
            incident.ended = now.isoformat()


def _due_together(incidents: Mapping[str, Incident]) -> list[list[str]]:
    """The keys of what is to be told, those of one group that begin, or end, in one list."""
    due: dict[tuple[str, bool, bool], list[str]] = {}
    for key, incident in incidents.items():
        if not incident.told or incident.ended is not None:
            due.setdefault((incident.group or key, incident.told, incident.ended is not None), []).append(key)
    return list(due.values())


def _tell(address: str, ui_url: str | None, keys: list[str], incidents: dict[str, Incident]) -> None:
    """Post what is due of incidents that are told together, and forget those whose end has been told."""
    texts, about = [], []
    for key in keys:
        incident = incidents[key]
        link = f"{ui_url}{incident.path}" if ui_url else None
        began = f"{datetime.fromisoformat(incident.began):%Y-%m-%d %H:%M} UTC"
        state = "open" if incident.ended is None else "closed"
        about.append({"incident": key, "began": incident.began, "ended": incident.ended, "link": link, "state": state})
        if incident.ended is None:
            text = incident.problem
        elif incident.told:
            text = f"{incident.over} It was an incident since {began}."
        else:  # it came and went while the webhook was down
            text = f"{incident.problem} (Since {began}.) By now that is over. {incident.over}"
        texts.append(f"{text} {link}" if link else text)
    more = [f"And {len(keys) - _TOLD} more: {', '.join(key.rpartition(':')[2] for key in keys[_TOLD:])}."]
    post(
        address,
        "\n".join([*texts[:_TOLD], *(more if len(keys) > _TOLD else [])]),
        {**about[0], **({"also": about[1:]} if about[1:] else {})},
    )
    for key in keys:
        incidents[key].told = True
        if incidents[key].ended is not None:
            del incidents[key]


def _troubles(
    context: dg.SensorEvaluationContext, now: datetime, watching_since: Mapping[str | None, datetime]
) -> Iterator[tuple[str, Trouble]]:
    """What is wrong now, each under a key that stays the same while it lasts."""
    repository = context.repository_def
    assert repository is not None  # noqa: S101  # every code location has one
    for name in sorted(name for name in repository.job_names if not name.startswith("__")):  # those of single assets: a person looks on
        for account, newest in newest_runs(context.instance, name).items():
            trouble = _job_trouble(context.instance, name, newest, account=account, now=now, watching_since=watching_since[account])
            if trouble is not None:
                yield trouble
    # An incomplete listing fails its step, or could never be read.
    keys = sorted(key for key in repository.asset_graph.asset_check_keys if key.name != LISTING_COMPLETE)
    summaries = context.instance.event_log_storage.get_asset_check_summary_records(keys)
    for key in keys:
        found = _check_trouble(key, summaries[key].last_completed_check_execution_record)
        if found is not None:
            yield f"check:{key.asset_key.to_user_string()}:{key.name}", found


def _job_trouble(
    instance: dg.DagsterInstance,
    name: str,
    newest: dg.RunRecord | None,
    *,
    account: str | None,
    now: datetime,
    watching_since: datetime,
) -> tuple[str, Trouble] | None:
    """What is wrong with a job, or with that of one of several accounts, whose newest finished run is given."""
    what, key = (name, name) if account is None else (f"{name} of {account}", f"{name}:{account}")
    if newest is not None and newest.dagster_run.is_failure:
        run = newest.dagster_run
        if run.tags.get("dagster/will_retry") == "true":
            return None
        problem = f"{what} failed. {_why(instance, run.run_id)}"
        return f"failed:{key}", Trouble(problem=problem, over=f"{what} succeeds again.", path=f"/runs/{run.run_id}", group=f"failed:{name}")
    scheduled = SCHEDULED.get(name)
    if scheduled is None:
        return None
    if newest is not None and newest.end_time is not None:
        last = datetime.fromtimestamp(newest.end_time, UTC)
        since = f"it last succeeded at {last:%Y-%m-%d %H:%M} UTC"
    elif account is not None or scheduled.purpose is None or settings.token_is_configured(scheduled.purpose):
        last, since = watching_since, "it never succeeded"
    else:
        return None  # without a token it never ran, and nobody waits for it
    if now - last <= patience(name):
        return None
    problem = f"{what} is late: {since}, and its schedule is {scheduled.cron}. Are the daemon, its schedule and the token there?"
    return f"late:{key}", Trouble(problem=problem, over=f"{what} has run again.", path=f"/jobs/{name}", group=f"late:{name}")


def _why(instance: dg.DagsterInstance, run_id: str) -> str:
    """The steps that failed, each with the sentence it gave; of what nobody foresaw the kind of error alone, as its text can hold data."""
    sentences = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.get_dagster_event()
        said = event.step_failure_data.user_failure_data
        if said is not None and said.description:
            why = said.description
        else:
            error = event.step_failure_data.error
            error = (error and error.cause) or error
            why = f"{error.cls_name if error and error.cls_name else 'An error'}, see the log of its run"
        sentences.append(f"{event.step_key}: {' '.join(why.split()).rstrip('.')}.")
    if not sentences:
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE):
            return (entry.get_dagster_event().message or "").split("\n")[0]
        return "Its log says why."
    more = len(sentences) - _TOLD
    return " ".join([*sentences[:_TOLD], *([f"And {more} more."] if more > 0 else [])])


def _check_trouble(key: dg.AssetCheckKey, record: AssetCheckExecutionRecord | None) -> Trouble | None:
    event = record and record.event and record.event.get_dagster_event()
    if not event:
        return None
    evaluation = event.asset_check_evaluation_data
    if evaluation.passed or (evaluation.severity is not dg.AssetCheckSeverity.ERROR and not evaluation.description):
        return None
    asset = key.asset_key.to_user_string()
    found: Any = evaluation.metadata.get("found")
    what = evaluation.description or (f"It found {found.value}." if found is not None else "The check's result says what it found.")
    return Trouble(
        problem=f"The check {key.name} of {asset} failed. {what}",
        over=f"The check {key.name} of {asset} passes again.",
        path=f"/assets/{quote(asset)}?view=checks",
    )
