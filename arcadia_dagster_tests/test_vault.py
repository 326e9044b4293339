"""The token from HashiCorp Vault, through a server on loopback that speaks the protocol of its KV engine, version 2."""

import sys

import pytest

from arcadia_dagster import settings
from arcadia_dagster_tests.commands import arcadia
from arcadia_dagster_tests.scripted_server import Reply, serving

REFERENCE = "vault:secret/data/digitalocean#token"
ENTRY, TOKEN = "hvs.entry-secret", "dop_v1_from_vault"


def secret(fields, **more):
    """A reply as https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version shows it."""
    metadata = {"created_time": "2026-05-01T00:00:00Z", "custom_metadata": None, "deletion_time": "", "destroyed": False, "version": 3}
    return Reply(
        body={
            "request_id": "1", "lease_id": "", "renewable": False, "lease_duration": 0, "data": {"data": fields, "metadata": metadata},
            "wrap_info": None, "warnings": None, "auth": None, "mount_type": "kv", **more,
        }
    )  # fmt: skip


@pytest.fixture
def vault(monkeypatch, tmp_path):
    """A Vault with one secret, which it shows to the right token alone."""

    def answer(request):
        if request.headers.get("x-vault-token") != ENTRY:
            return Reply(status=403, body={"errors": ["permission denied"]})
        if request.path != "/v1/secret/data/digitalocean":
            return Reply(status=404, body={"errors": []})
        return secret({"token": f" {TOKEN}\n", "other": "dop_v1_other", "number": 7})

    for name in ("VAULT_TOKEN", "VAULT_TOKEN_FILE", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving() as server:
        server.reply = answer
        monkeypatch.setenv("VAULT_ADDR", server.url)
        monkeypatch.setenv("DO_API_TOKEN", REFERENCE)
        yield server


def problem():
    """The one sentence that says why there is no token."""
    with pytest.raises(settings.SettingsError) as raised:
        settings.api_token("inventory")
    sentence = str(raised.value)
    assert "\n" not in sentence
    for kept in (ENTRY, TOKEN, "dop_v1_other"):
        assert kept not in sentence
    return sentence


def test_the_token_comes_from_vault(vault, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", ENTRY)
    monkeypatch.setenv("VAULT_NAMESPACE", "team/ops")
    assert settings.token_is_configured("inventory")
    assert vault.seen == []  # whoever asks for no more than that does not trouble Vault
    assert settings.api_token("inventory") == TOKEN
    (request,) = vault.seen
    assert (request.method, request.headers["x-vault-namespace"]) == ("GET", "team/ops")


def test_a_token_per_purpose_may_be_a_field_of_its_own(vault, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", ENTRY)
    monkeypatch.setenv("DO_API_TOKEN_BILLING", "vault:/secret/data/digitalocean#other")
    assert settings.api_token("billing") == "dop_v1_other"
    assert settings.api_token("inventory") == TOKEN


@pytest.mark.parametrize("place", ["VAULT_TOKEN_FILE", "~/.vault-token"])
def test_the_token_for_vault_may_be_in_a_file(vault, monkeypatch, tmp_path, place):
    file = tmp_path / ".vault-token" if place.startswith("~") else tmp_path / "agent-sink"
    file.write_text(f"{ENTRY}\n")
    if not place.startswith("~"):
        monkeypatch.setenv(place, str(file))
    assert settings.api_token("inventory") == TOKEN


def test_a_token_that_vault_refuses_is_one_sentence(vault, monkeypatch):
    for token in (None, "hvs.wrong-secret"):
        if token:
            monkeypatch.setenv("VAULT_TOKEN", token)
        assert problem() == (
            "DO_API_TOKEN: Vault refuses to show secret/data/digitalocean; check VAULT_TOKEN and that its policy may read this path"
        )


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=404, body={"errors": []}), "Vault has no secret at secret/data/digitalocean"),
        (
            Reply(status=404, body={"data": {"data": None, "metadata": {"deletion_time": "2026-05-01T00:00:00Z", "version": 3}}}),
            "its newest version is deleted",
        ),
        (Reply(status=503, body={"errors": ["Vault is sealed"]}), "Vault is sealed or not in service; unseal it, or try again later"),
        (Reply(status=400, body={"errors": [TOKEN]}), "Vault answered with an error (InvalidRequest)"),
        (Reply(status=500, body={"errors": [TOKEN]}), "Vault answered with an error (InternalServerError)"),
        (Reply(status=472, body={"errors": [TOKEN]}), "Vault answered with an error"),
        (Reply(body={"data": {"token": TOKEN}}), "is no secret of a KV engine of version 2"),
        (Reply(body=[TOKEN]), "is no secret of a KV engine of version 2"),
        (Reply(body=f"<html>{TOKEN}</html>".encode(), headers={"content-type": "text/html"}), "secret/data/digitalocean is no secret"),
        (Reply(reset=True), "Vault cannot be reached or what answers is none (ConnectionError); check VAULT_ADDR"),
        (secret({"other": TOKEN}), "the secret at secret/data/digitalocean has no text in its field token"),
        (secret({"token": 7}), "has no text in its field token"),
        (secret({"token": " "}), "has no text in its field token"),
        (secret({"token": f"{TOKEN} {TOKEN}"}), "the token in DO_API_TOKEN holds a space"),
    ],
)
def test_whatever_vault_answers_is_one_sentence(vault, monkeypatch, reply, words):
    monkeypatch.setenv("VAULT_TOKEN", ENTRY)
    vault.replies(reply)
    assert words in problem()


@pytest.mark.parametrize("reference", ["vault:", "vault:#token", "vault:secret/data/digitalocean", "vault:secret/data/digitalocean#"])
def test_a_reference_that_is_none_says_how_one_looks(vault, monkeypatch, reference):
    monkeypatch.setenv("DO_API_TOKEN", reference)
    assert problem().startswith("DO_API_TOKEN must be like vault:secret/data/digitalocean#token")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "127.0.0.1:1", "http://me:hunter2@127.0.0.1:1", "no address"])
def test_an_address_where_no_vault_is_is_one_sentence(vault, monkeypatch, address):
    monkeypatch.setenv("VAULT_ADDR", address)
    sentence = problem()
    assert "check VAULT_ADDR" in sentence
    assert "hunter2" not in sentence


def test_without_an_address_or_the_library_it_says_what_is_missing(vault, monkeypatch):
    monkeypatch.setitem(sys.modules, "hvac", None)
    assert "pip install 'arcadia-dagster[vault]'" in problem()
    monkeypatch.delenv("VAULT_ADDR")
    assert problem() == "DO_API_TOKEN names a secret in Vault, and VAULT_ADDR does not say where Vault is"


def test_a_command_says_it_in_one_sentence(vault, database_url):
    variables = {"DO_API_TOKEN": REFERENCE, "ARCADIA_DATABASE_URL": database_url, "VAULT_TOKEN": "hvs.wrong-secret"}
    done = arcadia("sync", **variables)
    assert done.code == 1
    assert done.sentence.startswith("arcadia: DO_API_TOKEN: Vault refuses to show secret/data/digitalocean; ")
    assert "hvs.wrong-secret" not in done.out + done.err
