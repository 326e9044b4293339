"""Reads a field of a secret from HashiCorp Vault, by its KV version 2 protocol. Which secret, and where Vault is, `settings.py` says.

The library for it is an extra: `pip install 'arcadia-dagster[vault]'`.
"""

_TIMEOUT = 10  # seconds


class VaultError(RuntimeError):
    """The secret could not be read. Its text is one clause that says why and what to do, and holds no secret."""


def read(path: str, field: str, *, address: str, token: str | None, namespace: str | None) -> str:
    """The text in `field` of the newest version of the secret at `path`, such as `secret/data/digitalocean`. Raises VaultError.

    Without a token, what `vault login` left in `~/.vault-token` is used. https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
    """
    try:
        import hvac
        import requests
    except ImportError:
        raise VaultError("Vault needs a library that is not installed: pip install 'arcadia-dagster[vault]'") from None
    client = hvac.Client(url=address, token=token, namespace=namespace, timeout=_TIMEOUT)
    try:
        reply = client.read(path)
    except hvac.exceptions.VaultDown:
        raise VaultError("Vault is sealed or not in service; unseal it, or try again later") from None
    except hvac.exceptions.Forbidden:
        raise VaultError(f"Vault refuses to show {path}; check VAULT_TOKEN and that its policy may read this path") from None
    except hvac.exceptions.VaultError as error:
        raise VaultError(f"Vault answered with an error ({type(error).__name__}); check VAULT_ADDR, VAULT_NAMESPACE and {path}") from None
    except (requests.RequestException, OSError, ValueError) as error:
        raise VaultError(f"Vault cannot be reached or what answers is none ({type(error).__name__}); check VAULT_ADDR") from None
    finally:
        client.adapter.close()
    if reply is None:
        raise VaultError(
            f"Vault has no secret at {path}, or its newest version is deleted; the path has data/ after the name of the KV engine"
        )
    data = reply.get("data") if isinstance(reply, dict) else None
    fields = data.get("data") if isinstance(data, dict) else None
    if not isinstance(fields, dict):
        raise VaultError(f"what Vault has at {path} is no secret of a KV engine of version 2")
    value = fields.get(field)
    if not isinstance(value, str) or not value.strip():
        raise VaultError(f"the secret at {path} has no text in its field {field}")
    return value.strip()
