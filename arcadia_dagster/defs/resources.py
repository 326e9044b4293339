"""The two things that assets are given: the provider's API and the ledger's database. Settings come from the environment, at run time.

Of several accounts, a run reads the one whose partition it materialises.
"""

from typing import Literal

import dagster as dg
from pydantic import PrivateAttr
from sqlalchemy import Engine

from arcadia_dagster import settings
from arcadia_dagster.defs.accounts import account_of_run
from arcadia_dagster.digitalocean.client import Client
from arcadia_dagster.digitalocean.replies import ProviderError
from arcadia_dagster.embedded_postgres import EmbeddedPostgresError
from arcadia_dagster.ledger.accounts import account_of_team, note_account, note_no_account
from arcadia_dagster.ledger.budget import RequestBudget
from arcadia_dagster.ledger.schema import SchemaError, connect

WAITS = "waits"  # begins what a run says while it waits for the provider


class DigitalOcean(dg.ConfigurableResource[None]):
    """The DigitalOcean API with the token for one purpose; one client of an account for all steps of a run, its requests counted in the
    ledger.
    """

    purpose: Literal["inventory", "billing"]
    _account: str | None = PrivateAttr(default=None)
    _clients: dict[str | None, tuple[Client, RequestBudget]] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Take the account of the run's partition; none where there are not several."""
        self._account = None if context.run is None else account_of_run(context.run)

    @property
    def account(self) -> str | None:
        """The account of the run, by its name in the accounts' file; None where there are not several, or the run is of none."""
        return self._account

    @property
    def client(self) -> Client:
        """The client of the run's account. Raises Failure, not to be retried, where no usable token or address is configured."""
        return self.client_of(self._account)

    def client_of(self, account: str | None) -> Client:
        """The run's client of an account. Raises as `client` does."""
        if account not in self._clients:
            log = dg.get_dagster_logger()

            def say(seconds: float, reason: str) -> None:
                if seconds >= 1:  # shorter ones are many where a limit is used in full, and each would be an event of the run
                    log.info(f"{WAITS} {seconds:.0f} s {reason}")

            try:
                token = settings.api_token(self.purpose, account)
                budget = RequestBudget(settings.ledger_url(), token)
                client = Client(
                    token,
                    base_url=settings.api_url(),
                    timeout=30 / settings.hurry(),
                    backoff=0.5 / settings.hurry(),
                    budget=budget,
                    on_wait=say,
                    token_place=settings.token_place(self.purpose, account),
                )
            except (ValueError, EmbeddedPostgresError) as problem:
                raise dg.Failure(str(problem), allow_retries=False) from None
            self._clients[account] = client, budget
        return self._clients[account][0]

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Close the connections."""
        for client, budget in self._clients.values():
            client.close()
            budget.close()
        self._clients.clear()


class Ledger(dg.ConfigurableResource[None]):
    """The ledger's database; its schema is made or migrated at first use."""

    _engine: Engine | None = PrivateAttr(default=None)
    _known: dict[tuple[str, str | None], int] = PrivateAttr(default_factory=dict)

    @property
    def engine(self) -> Engine:
        """Raises Failure with the one sentence that says why the database cannot be used."""
        if self._engine is None:
            try:
                self._engine = connect(settings.ledger_url())
            except (SchemaError, EmbeddedPostgresError, settings.SettingsError) as problem:
                raise dg.Failure(str(problem), allow_retries=False) from None
        return self._engine

    def account(self, api: DigitalOcean, name: str | None = None) -> int:
        """The account_id of the team that the token leads to: that of the run's account, or of the one of this name in the accounts' file.

        It is looked up once in a run; where there are several accounts, it is noted then where each of their tokens leads to.
        """
        name = name or api.account
        if (api.purpose, name) in self._known:
            return self._known[api.purpose, name]
        try:
            try:
                team = api.client_of(name).account()
            except ProviderError as problem:
                raise failure(problem) from None
        except dg.Failure as problem:
            if name is not None:
                note_no_account(self.engine, name, api.purpose, problem.description or "")
            raise
        account_id = account_of_team(self.engine, team_uuid=team.team_uuid, name=team.name)
        if name is not None:
            note_account(self.engine, name, api.purpose, account_id)
        self._known[api.purpose, name] = account_id
        return account_id

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Close the connections."""
        self._known.clear()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def failure(problem: ProviderError) -> dg.Failure:
    """The step's failure that tells a provider's error. Only what may pass by itself is worth another try."""
    passing = problem.status is None or problem.status == 429 or problem.status >= 500
    return dg.Failure(str(problem), allow_retries=passing)


# Resources are not found by name, as what else is defined here is: `definitions.py` hands these to every asset.
RESOURCES = {
    "inventory_api": DigitalOcean(purpose="inventory"),
    "billing_api": DigitalOcean(purpose="billing"),
    "ledger": Ledger(),
}
