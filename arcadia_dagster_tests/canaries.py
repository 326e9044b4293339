"""A simulated account that says more than it should: every field that the provider's lists can have is filled in with a marked secret.

Also looks for the mark, wherever a database or a folder may hold it. What may be kept is what `kinds.py` allows; see test_secrets.py.
"""

import contextlib
import json
import re
import zlib
from pathlib import Path

import msgspec
from sqlalchemy import text
from starlette.responses import Response

from arcadia_dagster.demo.items import PLANTED
from arcadia_dagster.demo.server import SimulatedServer
from arcadia_dagster.digitalocean.kinds import KINDS

SCHEMAS = json.loads((Path(__file__).parent / "data" / "response_schemas.json").read_text())
_DEPTH = 7  # of objects in objects; some of them hold themselves

# Who the token belongs to is kept by name and uuid.
_ACCOUNT = {"name", "uuid", "team.name", "team.uuid"}


def schema_of(path):
    """The template of a request's path, and the schema of the replies to it; None where there is none."""
    for template, described in SCHEMAS["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return template, described["response"]
    return None, None


def properties(schema):
    """Field -> schema, of everything that an object of this schema may have."""
    if "$ref" in schema:
        return properties(SCHEMAS["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    found = dict(schema.get("properties", {}))
    for part in ("allOf", "anyOf", "oneOf"):
        for inner in schema.get(part, []):
            found |= properties(inner)
    return found


def element(schema):
    """The schema of a list's elements; None if it describes no list."""
    if "$ref" in schema:
        return element(SCHEMAS["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return schema.get("items")


def kept_paths(kind):
    """What a kind keeps of an item, as dotted paths with `[]` after lists."""
    named = (kind.id, kind.label, kind.region, kind.status, kind.tags, kind.created, kind.monthly_price, kind.project_id, kind.inner)
    return {path for path in (*named, *(kind.parent or ()), *kind.attrs) if path}


class Planter:
    """Fills in what replies lack. `planted` is mark -> where it was put."""

    def __init__(self):
        self.planted = {}

    def mark(self, where):
        mark = f"{PLANTED}-{len(self.planted)}-"
        self.planted[mark] = where
        return mark

    def fill(self, schema, value, where, kept, path="", depth=0):
        """The value with a secret in each field that the schema has, the value lacks and nobody keeps; None: nothing to put there."""
        if any(path in (one, f"{one}[]") or path.startswith((f"{one}.", f"{one}[]")) for one in kept) or depth > _DEPTH:
            return value
        if isinstance(value, list) or (value is None and element(schema) is not None):
            inner = element(schema)
            if inner is None:
                return value
            filled = [self.fill(inner, one, where, kept, f"{path}[]", depth + 1) for one in value or [None]]
            return [one for one in filled if one is not None]
        fields = properties(schema)
        if isinstance(value, dict) or (value is None and fields):
            filled = dict(value or {})
            for name, inner in fields.items():
                found = self.fill(inner, filled.get(name), where, kept, f"{path}.{name}".lstrip("."), depth + 1)
                if found is not None:
                    filled[name] = found
            return filled
        if value is None and schema.get("type") == "string" and "enum" not in schema:
            return "2026-05-01T00:00:00Z" if schema.get("format") == "date-time" else self.mark(f"{where} {path}")
        if value is None and "additionalProperties" in schema:
            return {self.mark(f"{where} {path}"): self.mark(f"{where} {path}")}
        return value


class TalkativeServer(SimulatedServer):
    """Serves what it would, with every field filled in. `faults`: path -> what it makes of a reply's body (bytes) instead."""

    def __init__(self, accounts):
        super().__init__(accounts)
        self.planter, self.faults = Planter(), {}
        self._kinds = {(kind.path or "").format(id="x"): kind for kind in KINDS.values()}

    def _endpoint(self, answer):
        def talk(account, request):
            body = answer(account, request)
            path = request.url.path
            if not isinstance(body, Response):
                body = self._filled(path, body)
            if path in self.faults:
                return self.faults[path](msgspec.json.encode(body))
            return body

        return super()._endpoint(talk)

    def _filled(self, path, body):
        template, schema = schema_of(path)
        if template == "/v2/account":
            return {"account": self.planter.fill(properties(schema)["account"], body["account"] | {"email": None}, path, _ACCOUNT)}
        kind = self._kinds.get(re.sub(r"\{\w+\}", "x", template or ""))
        if kind is None or kind.key not in body:
            return body
        inner = element(properties(schema)[kind.key])
        return body | {kind.key: [self.planter.fill(inner, item, path, kept_paths(kind)) for item in body[kind.key]]}


def in_database(engine, *needles):
    """(table.column, what) of all that is found in the database: every column of every table of every schema, binary ones unpacked too."""
    found = set()
    with engine.connect() as conn:
        tables = "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        for table in conn.execute(text(tables)).scalars().all():
            for row in conn.execute(text(f"select * from {table}")).mappings():
                for column, value in row.items():
                    found |= {(f"{table}.{column}", what) for what in marks_in(value, *needles)}
    return found


def in_folder(folder, *needles):
    """(file, what) of all that is found in the folder's files and their names."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {(str(file), what) for file in files for what in (*marks_in(file.read_bytes(), *needles), *marks_in(str(file), *needles))}


def marks_in(value, *needles):
    """Which of the needles a value holds, with the number that a planted one goes on with; also what it has packed or written in hex."""
    if isinstance(value, (bytes, memoryview)):
        value = bytes(value)
        with contextlib.suppress(zlib.error):
            value += zlib.decompress(value)  # Dagster packs its snapshots
        value = value.decode("latin-1")
    said = str(value)
    whole = re.findall(rf"(?:{'|'.join(map(re.escape, needles))})(?:-\d+-)?", said)
    return {*whole, *(needle for needle in needles if needle.encode().hex() in said)}
