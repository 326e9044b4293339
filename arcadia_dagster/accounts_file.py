"""Reads the accounts' file: TOML that names accounts and says where their tokens are kept, and tells by key all that is wrong with it.

No token stands in it, and nothing here reads one: which file it is, and what a reference leads to, `settings.py` says.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # as a tag of Dagster's can hold
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VAULT = re.compile(r"vault:[^#]*[^#/][^#]*#.+")
# What somebody pasted in the wrong place must not be printed. https://docs.digitalocean.com/reference/api/create-personal-access-token/
_TOKEN = re.compile(r"do[a-z]_v1_|\b[0-9a-f]{64}\b", re.IGNORECASE)

_WAYS = ("token_env", "token_file", "token")
_PURPOSES = ("inventory", "billing")
_KEYS = (*_WAYS, *(f"{purpose}_{way}" for purpose in _PURPOSES for way in _WAYS))


class AccountsFileError(ValueError):
    """The file cannot be used. `problems` are all of them, in the order of the file, each as `FILE: what is wrong, and where`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class TokenPlace:
    """Where a token is kept: in an environment variable, a file or Vault. `key` is where the file says so."""

    key: str
    way: Literal["token_env", "token_file", "token"]
    value: str


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Where the tokens of one account are kept."""

    inventory: TokenPlace
    billing: TokenPlace


def read_accounts(path: Path) -> dict[str, Tokens]:
    """The accounts in a file by name, in its order. Raises AccountsFileError with every problem it has, also where it cannot be read."""
    return _Reader(str(path)).accounts(path)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[str] = []

    def accounts(self, path: Path) -> dict[str, Tokens]:
        found: dict[str, Tokens | None] = {}
        root = self._parse(path)
        if root is not None:
            for key in (key for key in root if key != "accounts"):
                self._complain(f"there is no key {_shown(key)}; accounts are named by [accounts.NAME]")
            named = root.get("accounts", {})
            if not isinstance(named, dict) or not named:
                self._complain("it must name one account at least, by [accounts.NAME]")
            else:
                found = {name: self._tokens(name, fields) for name, fields in named.items()}
        if self.problems:
            raise AccountsFileError(self.problems)
        return {name: tokens for name, tokens in found.items() if tokens is not None}

    def _parse(self, path: Path) -> dict[str, Any] | None:
        try:
            return tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            self._complain(f"it cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self._complain("this is no UTF-8 text")
        except tomllib.TOMLDecodeError as error:
            # The parser's own words can hold what stands there.
            where = re.search(r"at line \d+, column \d+|at end of document", str(error))
            self._complain(f"this is not TOML{f', {where[0]}' if where else ''}; texts need quotes, and a name can be there only once")
        except RecursionError:
            self._complain("this is not TOML that can be read: it is nested too deeply")
        return None

    def _tokens(self, name: str, fields: object) -> Tokens | None:
        where = f"accounts.{name}"
        if not _NAME.fullmatch(name) or _TOKEN.search(name):
            self._complain(f"the name {_shown(name)} of an account must be of lower-case letters, digits, - and _, at most 63")
            where = "an account"
        if not isinstance(fields, dict):
            self._complain(f"{where} must be a table: [accounts.NAME], and below it where its token is")
            return None
        for key in fields:
            if key not in _KEYS:
                self._complain(f"{where} has no key {_shown(key)}; it has {', '.join(_KEYS)}")
        places: dict[str, TokenPlace] = {}
        for prefix in ("", *(f"{purpose}_" for purpose in _PURPOSES)):
            ways = [way for way in _WAYS if f"{prefix}{way}" in fields]
            if len(ways) > 1:
                self._complain(f"{where} has {' and '.join(prefix + way for way in ways)}; a token is in one place")
            for way in ways:
                place = self._place(f"{where}.{prefix}{way}", way, fields[prefix + way])
                for purpose in (prefix[:-1],) if prefix else _PURPOSES:
                    places[purpose] = place
        missing = [purpose for purpose in _PURPOSES if purpose not in places]
        if missing:
            self._complain(f"{where} has no token for {' and '.join(missing)}: say where it is with token_env, token_file or token")
            return None
        return Tokens(**places)

    def _place(self, key: str, way: Any, value: object) -> TokenPlace:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self._complain(f"{key} must be a text that can be printed, and not empty")
        elif way == "token" and not _VAULT.fullmatch(value):
            self._complain(
                f"{key} must be a reference, like vault:secret/data/digitalocean#token; a token itself does not belong into this file:"
                " put it into a variable or a file, and name that with token_env or token_file"
            )
        elif way != "token" and _TOKEN.search(value):
            self._complain(f"{key} seems to hold a token itself; it must be the {'name of a variable' if way == 'token_env' else 'path'}")
        elif way == "token_env" and not _VARIABLE.fullmatch(value):
            self._complain(f"{key} must be the name of an environment variable")
        return TokenPlace(key=key, way=way, value=str(value))

    def _complain(self, what: str) -> None:
        self.problems.append(f"{self.file}: {what}")


def _shown(text: str) -> str:
    return "(it looks like a token)" if _TOKEN.search(text) else repr(text)
