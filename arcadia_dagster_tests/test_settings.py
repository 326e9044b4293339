import contextlib
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from arcadia_dagster import settings
from arcadia_dagster.settings import SettingsError

COMMON = ["DO_API_TOKEN", "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"]


@pytest.mark.parametrize("purpose", ["inventory", "billing"])
def test_tokens_are_looked_for_in_the_documented_order(monkeypatch, tmp_path, purpose):
    order = [f"DO_API_TOKEN_{purpose.upper()}", *COMMON]
    for name in reversed(order):
        file = tmp_path / name
        file.write_text(f"  file-of-{name}\n")
        monkeypatch.setenv(f"{name}_FILE", str(file))
        assert settings.api_token(purpose) == f"file-of-{name}"
        monkeypatch.setenv(name, f" {name}\n")
        assert settings.api_token(purpose) == name
        assert settings.token_is_configured(purpose)


def test_the_other_purpose_s_token_is_not_used(monkeypatch):
    monkeypatch.setenv("DO_API_TOKEN_BILLING", "b")
    assert not settings.token_is_configured("inventory")
    with pytest.raises(SettingsError, match=r"no DigitalOcean token for inventory: set DO_API_TOKEN, .*DIGITALOCEAN_ACCESS_TOKEN"):
        settings.api_token("inventory")


def test_a_blank_token_is_none(monkeypatch):
    monkeypatch.setenv("DO_API_TOKEN", "  ")
    assert not settings.token_is_configured("billing")


def test_every_token_variable_is_listed(monkeypatch):
    for name in settings.TOKEN_VARIABLES:
        with monkeypatch.context() as patch:
            patch.setenv(name, "t")
            assert settings.token_is_configured("inventory") or settings.token_is_configured("billing")
    assert len(settings.TOKEN_VARIABLES) == 2 * (len(COMMON) + 2)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfesecret", b"secret one\nsecret two"])
def test_an_unusable_token_file_is_named_and_its_content_is_not(monkeypatch, tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("DO_API_TOKEN_FILE", str(file))
    with pytest.raises(SettingsError) as raised:
        settings.api_token("billing")
    assert "DO_API_TOKEN_FILE" in str(raised.value)
    assert str(file) in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("token", ["dop_v1 secret", "dop\nsecret", "dop_sécret"])
def test_a_token_that_cannot_be_sent_is_refused_without_printing_it(monkeypatch, token):
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", token)
    with pytest.raises(SettingsError, match="DIGITALOCEAN_TOKEN") as raised:
        settings.api_token("inventory")
    assert token not in str(raised.value)


@pytest.mark.parametrize(
    ("given_url", "used"),
    [
        (None, "https://api.digitalocean.com"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://proxy.example/do/v2/", "https://proxy.example/do"),
    ],
)
def test_base_address(monkeypatch, given_url, used):
    if given_url:
        monkeypatch.setenv("DIGITALOCEAN_API_URL", given_url)
    assert settings.api_url() == used


@pytest.mark.parametrize("url", ["api.digitalocean.com", "ftp://x", "https://", "http://x:port", "http://[::1", "http://x?y=1"])
def test_a_base_address_that_is_none(monkeypatch, url):
    monkeypatch.setenv("DIGITALOCEAN_API_URL", url)
    with pytest.raises(SettingsError, match="DIGITALOCEAN_API_URL"):
        settings.api_url()


def test_the_webhook_may_be_in_a_file(monkeypatch, tmp_path):
    assert settings.alert_webhook() is None
    file = tmp_path / "webhook"
    file.write_text("https://hooks.example.com/services/T0/B0?x=1\n")
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_FILE", str(file))
    assert settings.alert_webhook() == "https://hooks.example.com/services/T0/B0?x=1"
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK", " http://127.0.0.1:8065/hooks/x ")
    assert settings.alert_webhook() == "http://127.0.0.1:8065/hooks/x"


@pytest.mark.parametrize(
    "value", ["hooks/secret", "file:///etc/secret", "https://", "https://x/secret y", "https://x/sécret", "http://[secret"]
)
def test_a_webhook_that_is_none_is_not_printed(monkeypatch, tmp_path, value):
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK", value)
    with pytest.raises(SettingsError, match="ARCADIA_ALERT_WEBHOOK must give one address") as raised:
        settings.alert_webhook()
    assert "secret" not in str(raised.value)
    (tmp_path / "file").write_text(value)
    monkeypatch.delenv("ARCADIA_ALERT_WEBHOOK")
    monkeypatch.setenv("ARCADIA_ALERT_WEBHOOK_FILE", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match="ARCADIA_ALERT_WEBHOOK_FILE must give one address"):
        settings.alert_webhook()


def test_the_address_of_the_ui(monkeypatch):
    assert settings.ui_url() is None
    monkeypatch.setenv("ARCADIA_UI_URL", "https://dagster.example.com/prod/")
    assert settings.ui_url() == "https://dagster.example.com/prod"
    monkeypatch.setenv("ARCADIA_UI_URL", "dagster.example.com")
    with pytest.raises(SettingsError, match="ARCADIA_UI_URL must be an address"):
        settings.ui_url()


@pytest.mark.parametrize(
    ("name", "limit", "default"),
    [
        ("ARCADIA_ALERT_UNEXPLAINED_USD", settings.unexplained_limit, Decimal(10)),
        ("ARCADIA_ALERT_PROJECT_INCREASE_PERCENT", settings.project_increase_limit, Decimal(50)),
        ("ARCADIA_MONTHLY_BUDGET_USD", settings.monthly_budget, None),
    ],
)
def test_limits_are_numbers_and_0_is_one(monkeypatch, name, limit, default):
    assert limit() == default
    monkeypatch.setenv(name, "0")
    assert limit() == 0
    monkeypatch.setenv(name, " 12.50 ")
    assert limit() == Decimal("12.50")
    for value in ("-1", "much", "nan", "1,5"):
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match=f"{name} must be a number, 0 or more, not"):
            limit()


def test_home_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCADIA_HOME", "ledger")
    assert settings.home() == tmp_path / "ledger"
    monkeypatch.setenv("ARCADIA_HOME", "~/ledger")
    assert settings.home() == Path.home() / "ledger"
    monkeypatch.delenv("ARCADIA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert settings.home().is_relative_to(tmp_path)


def test_exports_go_under_home_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("ARCADIA_HOME", str(tmp_path))
    assert settings.export_dir() == tmp_path / "exports"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCADIA_EXPORT_DIR", "files")
    assert settings.export_dir() == tmp_path / "files"


def test_strike_interval(monkeypatch):
    assert settings.strike_interval() == timedelta(minutes=10)
    monkeypatch.setenv("ARCADIA_STRIKE_INTERVAL_SECONDS", "0")
    assert settings.strike_interval() == timedelta(0)


@pytest.mark.parametrize("value", ["-1", "ten", "1.5", "9" * 30])
def test_a_strike_interval_that_is_none(monkeypatch, value):
    monkeypatch.setenv("ARCADIA_STRIKE_INTERVAL_SECONDS", value)
    with pytest.raises(SettingsError, match="ARCADIA_STRIKE_INTERVAL_SECONDS"):
        settings.strike_interval()


def test_internal_project(monkeypatch):
    assert settings.internal_project() == "skyai-internal"
    monkeypatch.setenv("ARCADIA_INTERNAL_PROJECT", "ours")
    assert settings.internal_project() == "ours"
    monkeypatch.setenv("ARCADIA_INTERNAL_PROJECT", "")
    assert settings.internal_project() is None


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_any_spelling_of_a_database_leads_to_the_driver_that_works(monkeypatch, scheme):
    monkeypatch.setenv("ARCADIA_DATABASE_URL", f"{scheme}://me:p%40ss@db.example:6543/ledger?sslmode=require")
    assert settings.ledger_url() == make_url("postgresql+psycopg://me:p%40ss@db.example:6543/ledger?sslmode=require")
    storage = make_url(settings.dagster_storage_url())
    assert (storage.drivername, storage.password, storage.database) == ("postgresql+psycopg2", "p@ss", "ledger")
    assert storage.query == {"sslmode": "require", "options": "-csearch_path=dagster"}
    assert not settings.storage_has_own_database()
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"{scheme}://d:pw@other/dagster")
    assert settings.dagster_storage_url() == "postgresql+psycopg2://d:pw@other/dagster"
    assert settings.storage_has_own_database()


def test_options_of_the_ledger_s_address_are_kept(monkeypatch):
    monkeypatch.setenv("ARCADIA_DATABASE_URL", "postgresql://h/d?options=-cwork_mem%3D64MB")
    assert make_url(settings.dagster_storage_url()).query["options"] == "-cwork_mem=64MB -csearch_path=dagster"


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "u:secret@h/d", "postgresql://u:secret@h:port/d", "sqlite:///secret"])
@pytest.mark.parametrize("name", ["ARCADIA_DATABASE_URL", "DAGSTER_POSTGRES_URL"])
def test_a_database_address_that_is_none_is_refused_without_printing_it(monkeypatch, name, url):
    monkeypatch.setenv(name, url)
    with pytest.raises(SettingsError, match=name) as raised:
        settings.dagster_storage_url()
    assert "secret" not in str(raised.value)


@given(st.text(max_size=40))
def test_any_text_is_a_database_address_or_refused(text):
    with contextlib.suppress(SettingsError):
        assert settings.postgres_url(text, "X").drivername.startswith("postgres")


def test_the_ledger_is_embedded_where_no_database_is_named(monkeypatch):
    called = []
    monkeypatch.setattr(
        "arcadia_dagster.embedded_postgres.start", lambda folder: called.append(folder) or "postgresql://postgres@/postgres"
    )
    assert settings.ledger_url().drivername == "postgresql+psycopg"
    assert called == [settings.home() / "postgres"] == [settings.embedded_data_dir()]
