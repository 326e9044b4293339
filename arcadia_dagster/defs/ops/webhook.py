"""Posts one message to the webhook that the operator named: Slack's, Mattermost's, Teams', or any that takes JSON.

What is worth a message is decided in `alerts.py`. This is no part of `digitalocean/`, whose client is made of the provider's rules (paging,
budget, retries); and the standard library does it, because httpx logs the address of every request, and this address is a secret.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import httpx

_TIMEOUT = 10.0  # seconds
_LONGEST = 3000  # characters; chats cut or refuse what is much longer


class WebhookError(Exception):
    """The message did not arrive. Its text says why and never holds the address."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would be followed by a GET, which loses the message."""

    def redirect_request(self, *_: Any) -> None:
        return None


def plain(text: str) -> str:
    """A text of which a chat takes no part, such as a name, for a link or a call to everybody (`<!channel>`, `@all`); cut to fit."""
    harmless = text.translate({ord("<"): "(", ord(">"): ")", ord("@"): "(at)"})
    return harmless if len(harmless) <= _LONGEST else harmless[: _LONGEST - 1] + "…"


def post(address: str, text: str, about: Mapping[str, Any]) -> None:
    """Post `{"text": text, "arcadia": about}`; `about` is for programs, under one name that means nothing to a chat.

    Raises WebhookError unless the answer is 2xx within ten seconds.
    """
    body = {"text": plain(text), "arcadia": about}
    request = urllib.request.Request(  # noqa: S310  # settings see to it that the address is of http or https
        address, data=json.dumps(body).encode(), headers={"content-type": "application/json", "user-agent": "arcadia-dagster"}
    )
    trust = urllib.request.HTTPSHandler(context=httpx.create_ssl_context())  # as the provider's client does
    try:
        with urllib.request.build_opener(_NoRedirect, trust).open(request, timeout=_TIMEOUT):
            pass
    except urllib.error.HTTPError as answer:
        answer.close()
        raise WebhookError(f"it answered HTTP {answer.code}") from None
    except urllib.error.URLError as problem:
        reason = problem.reason
        raise WebhookError(f"it cannot be reached ({type(reason).__name__ if isinstance(reason, Exception) else 'no answer'})") from None
    except Exception as problem:  # their texts can hold the address
        raise WebhookError(f"it gave no answer that is understood ({type(problem).__name__})") from None
