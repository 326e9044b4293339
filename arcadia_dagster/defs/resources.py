"""The two things that assets are given: the provider's API and the ledger's database. Settings come from the environment, at run time."""

from typing import Literal

import dagster as dg
from pydantic import PrivateAttr
from sqlalchemy import Engine

from arcadia_dagster import settings
from arcadia_dagster.digitalocean.client import Client, ProviderError
from arcadia_dagster.embedded_postgres import EmbeddedPostgresError
from arcadia_dagster.ledger.accounts import account_of_team
from arcadia_dagster.ledger.budget import RequestBudget
from arcadia_dagster.ledger.schema import SchemaError, connect

WAITS = "waits"  # begins what a run says while it waits for the provider


class DigitalOcean(dg.ConfigurableResource[None]):
    """The DigitalOcean API with the token for one purpose; one client for all steps of a run, its requests counted in the ledger."""

    purpose: Literal["inventory", "billing"]
    _client: Client | None = PrivateAttr(default=None)
    _budget: RequestBudget | None = PrivateAttr(default=None)

    @property
    def client(self) -> Client:
        """The run's client. Raises Failure, not to be retried, where no usable token or address is configured."""
        if self._client is None:
            log = dg.get_dagster_logger()

            def say(seconds: float, reason: str) -> None:
                if seconds >= 1:  # shorter ones are many where a limit is used in full, and each would be an event of the run
                    log.info(f"{WAITS} {seconds:.0f} s {reason}")

            try:
                token = settings.api_token(self.purpose)
                self._budget = RequestBudget(settings.ledger_url(), token)
                self._client = Client(
                    token,
                    base_url=settings.api_url(),
                    timeout=30 / settings.hurry(),
                    backoff=0.5 / settings.hurry(),
                    budget=self._budget,
                    on_wait=say,
                )
            except (ValueError, EmbeddedPostgresError) as problem:
                raise dg.Failure(str(problem), allow_retries=False) from None
        return self._client

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._budget is not None:
            self._budget.close()
            self._budget = None


class Ledger(dg.ConfigurableResource[None]):
    """The ledger's database; its schema is made or migrated at first use."""

    _engine: Engine | None = PrivateAttr(default=None)

    @property
    def engine(self) -> Engine:
        """Raises Failure with the one sentence that says why the database cannot be used."""
        if self._engine is None:
            try:
                self._engine = connect(settings.ledger_url())
            except (SchemaError, EmbeddedPostgresError, settings.SettingsError) as problem:
                raise dg.Failure(str(problem), allow_retries=False) from None
        return self._engine

    def account(self, client: Client) -> int:
        """The account_id of the team that the client's token belongs to."""
        try:
            team = client.account()
        except ProviderError as problem:
            raise failure(problem) from None
        return account_of_team(self.engine, team_uuid=team.team_uuid, name=team.name)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Close the connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def failure(problem: ProviderError) -> dg.Failure:
    """The step's failure that tells a provider's error. Only what may pass by itself is worth another try."""
    passing = problem.status is None or problem.status == 429 or problem.status >= 500
    return dg.Failure(str(problem), allow_retries=passing)


@dg.definitions
def resources() -> dg.Definitions:
    """Resources are not found by name; this hands them to every asset."""
    return dg.Definitions(
        resources={
            "inventory_api": DigitalOcean(purpose="inventory"),
            "billing_api": DigitalOcean(purpose="billing"),
            "ledger": Ledger(),
        }
    )
