"""The accounts that every other row belongs to. Which token belongs to which team is the provider's to say, not ours."""

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
