"""The accounts that every other row belongs to. Which token belongs to which team is the provider's to say, not ours.

Of the names that an accounts' file gives to tokens, only where they led to is kept here; what is in the file, `accounts_file.py` reads.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, text


class AccountError(ValueError):
    """No account, or more than one, goes by the name given. The text says which and what to do."""


def account_of_team(engine: Engine, *, team_uuid: str, name: str) -> int:
    """The account_id of a team, made on first sight; a team that was renamed keeps its account and gets the new name."""
    with engine.begin() as conn:
        found = conn.execute(
            text("select account_id, name from arcadia.cloud_accounts where provider = 'digitalocean' and team_uuid = :team_uuid"),
            {"team_uuid": team_uuid},
        ).one_or_none()
        if found is not None and found.name == name:
            return int(found.account_id)
        return int(
            conn.execute(
                text(
                    "insert into arcadia.cloud_accounts (team_uuid, name) values (:team_uuid, :name)"
                    " on conflict (provider, team_uuid) do update set name = excluded.name returning account_id"
                ),
                {"team_uuid": team_uuid, "name": name},
            ).scalar_one()
        )


def account_named(conn: Connection, name: str) -> int | None:
    """The account_id of the team or import that goes by this team uuid or name, teams first; None: there is none.

    Raises AccountError where several teams bear the name.
    """
    found = conn.execute(
        text(
            "select account_id, team_uuid from arcadia.cloud_accounts where team_uuid = :name or name = :name"
            " order by team_uuid is null, account_id"
        ),
        {"name": name},
    ).all()
    teams = [row for row in found if row.team_uuid is not None]
    if len(teams) > 1:
        uuids = ", ".join(row.team_uuid for row in teams)
        raise AccountError(f"{len(teams)} accounts are named {name!r}; give one of their team uuids instead: {uuids}")
    return int(found[0].account_id) if found else None


def account_for_import(engine: Engine, name: str) -> int:
    """The account_id that an import names by team uuid or name; a name never seen makes a new account without a team.

    Raises AccountError where several teams bear the name.
    """
    with engine.begin() as conn:
        account_id = account_named(conn, name)
        if account_id is not None:
            return account_id
        return int(
            conn.execute(
                text(
                    "insert into arcadia.cloud_accounts (name) values (:name) on conflict (name) where team_uuid is null"
                    " do update set name = excluded.name returning account_id"
                ),
                {"name": name},
            ).scalar_one()
        )


def note_account(engine: Engine, name: str, purpose: str, account_id: int) -> None:
    """Note that the token for a purpose of the account that the accounts' file calls `name` leads to this account."""
    with engine.begin() as conn:
        conn.execute(
            text(
                "insert into arcadia.configured_accounts as c (name, purpose, account_id, tried_at)"
                " values (:name, :purpose, :account_id, now()) on conflict (name, purpose) do update set account_id = excluded.account_id,"
                " former_account_id = case when c.account_id <> excluded.account_id then c.account_id else c.former_account_id end,"
                " changed_at = case when c.account_id <> excluded.account_id then now() else c.changed_at end,"
                " tried_at = now(), error = null"
            ),
            {"name": name, "purpose": purpose, "account_id": account_id},
        )


def note_no_account(engine: Engine, name: str, purpose: str, error: str) -> None:
    """Note why that token led nowhere. What it led to before stays known."""
    with engine.begin() as conn:
        conn.execute(
            text(
                "insert into arcadia.configured_accounts (name, purpose, tried_at, error) values (:name, :purpose, now(), :error)"
                " on conflict (name, purpose) do update set tried_at = now(), error = excluded.error"
            ),
            {"name": name, "purpose": purpose, "error": error},
        )


def accounts_of(conn: Connection, names: Sequence[str], purpose: str) -> dict[str, int]:
    """The account_id that each of these names led to last, in the order of the names; those that led to none are left out."""
    rows = conn.execute(
        text("select name, account_id from arcadia.configured_accounts where purpose = :purpose and account_id is not null"),
        {"purpose": purpose},
    ).all()
    known = {row.name: int(row.account_id) for row in rows}
    return {name: known[name] for name in names if name in known}


def doubts(conn: Connection, names: Sequence[str]) -> list[tuple[str, str]]:
    """What a person ought to look at in where these names lead to, as (name, sentence): no harm to the ledger, whose rows are the teams'.

    Two names of one team, a name whose tokens are of two teams, and, for a week, one that has come to lead to another team.
    """
    rows = conn.execute(
        text(
            """
            with led as (
                select c.*, a.name as team, f.name as former from arcadia.configured_accounts c
                  join arcadia.cloud_accounts a using (account_id) left join arcadia.cloud_accounts f on f.account_id = c.former_account_id
                 where c.name = any(:names))
            select unnest(names) as name, format('%s lead to one and the same team, %s: it is read once for each of them',
                                                 array_to_string(names, ' and '), team) as doubt
              from (select account_id, team, array_agg(distinct name) as names from led group by 1, 2) o where cardinality(names) > 1
            union all
            select i.name, format('the tokens of %s are of two teams: inventory is read of %s, and billing of %s', i.name, i.team, b.team)
              from led i join led b using (name) where i.purpose = 'inventory' and b.purpose = 'billing' and i.account_id <> b.account_id
            union all
            select name, format('the %s token of %s leads to the team %s since %s UTC, and led to %s before', purpose, name, team,
                                to_char(changed_at, 'YYYY-MM-DD HH24:MI'), former)
              from led where changed_at > now() - interval '7 days' and former_account_id <> account_id
             order by 1, 2"""
        ),
        {"names": list(names)},
    ).all()
    return [(row.name, row.doubt) for row in rows]
