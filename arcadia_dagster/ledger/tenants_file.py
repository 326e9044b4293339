"""Reads the tenants' file: YAML that declares the tenants and what belongs to each, and says line by line what is wrong with it.

What a declaration does to the ledger is in `tenants.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from arcadia_dagster.digitalocean.kinds import KINDS

_ID = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SELECTORS = ("project", "tag", "name")


class TenantsFileError(ValueError):
    """The file cannot be applied. `problems` are all of them, in the order of the file, each as `FILE:LINE: what is wrong`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What belongs to a tenant: a project, by name or id; what has a tag; or what has a name that fits a glob (* and ?), case ignored.

    `kind` narrows the last two.
    """

    project: str | None = None
    tag: str | None = None
    name: str | None = None
    kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """One tenant with its rules, in the order of the file."""

    tenant_id: str
    name: str
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A whole file: the tenants in its order, and the one that has what no rule gives to another."""

    tenants: tuple[Tenant, ...]
    fallback: str


def read_tenants(path: Path) -> Declaration:
    """The declaration in a file. Raises TenantsFileError with every problem it has, OSError where it cannot be read."""
    content = path.read_bytes()
    return _Reader(str(path)).declaration(content)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[tuple[int, str]] = []

    def declaration(self, content: bytes) -> Declaration:
        root = self._parse(content)
        tenants: list[Tenant] = []
        fallback: str | None = None
        if root is not None:
            fields = self._mapping(root, "the file", ("fallback", "tenants"))
            tenants = self._tenants(fields.get("tenants"), root)
            fallback = self._text(fields, "fallback", root, "the file")
            if fallback is not None and tenants and fallback not in {tenant.tenant_id for tenant in tenants}:
                self._complain(fields["fallback"], f"fallback {fallback!r} is none of the tenants")
        if self.problems or fallback is None:
            raise TenantsFileError([f"{self.file}:{line}: {what}" for line, what in sorted(self.problems)])
        return Declaration(tenants=tuple(tenants), fallback=fallback)

    def _parse(self, content: bytes) -> yaml.Node | None:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.problems.append((content[: error.start].count(b"\n") + 1, "this is no UTF-8 text"))
            return None
        try:
            # Nodes instead of values, as these know their lines; nothing is constructed.
            root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.problems.append((mark.line + 1 if mark else 1, f"this is not YAML: {error.problem or error.context}"))
        except yaml.reader.ReaderError as error:
            self.problems.append((text.count("\n", 0, error.position) + 1, "this is not YAML: it holds a character that is not allowed"))
        except RecursionError:
            self.problems.append((1, "this is not YAML that can be read: it is nested too deeply"))
        else:
            if root is None:
                self.problems.append((1, "the file is empty; it must name tenants and a fallback"))
            return root
        return None

    def _tenants(self, node: yaml.Node | None, root: yaml.Node) -> list[Tenant]:
        tenants: list[Tenant] = []
        lines: dict[str, int] = {}
        if node is None and isinstance(root, yaml.MappingNode):
            self._complain(root, "the file needs the key tenants")
        for item in self._items(node, "tenants"):
            fields = self._mapping(item, "a tenant", ("id", "name", "rules"))
            tenant_id = self._text(fields, "id", item, "a tenant")
            name = self._text(fields, "name", item, "a tenant")
            rules = tuple(self._rule(rule) for rule in self._items(fields.get("rules"), "rules"))
            if tenant_id is None:
                continue
            if not _ID.fullmatch(tenant_id):
                self._complain(
                    fields["id"], f"id {tenant_id!r} must be a letter and up to 39 letters, digits or underscores, all lower case"
                )
            if tenant_id in lines:
                self._complain(fields["id"], f"id {tenant_id!r} is already the tenant of line {lines[tenant_id]}")
            lines.setdefault(tenant_id, _line(fields["id"]))
            tenants.append(Tenant(tenant_id=tenant_id, name=name or "", rules=rules))
        if isinstance(node, yaml.SequenceNode) and not node.value:
            self._complain(node, "tenants must name one at least")
        return tenants

    def _rule(self, node: yaml.Node) -> Rule:
        fields = self._mapping(node, "a rule", (*_SELECTORS, "kind"))
        values = {key: self._text(fields, key, node, "a rule") for key in fields}
        selectors = [key for key in _SELECTORS if key in fields]
        if len(selectors) != 1 and isinstance(node, yaml.MappingNode):
            self._complain(node, f"a rule has one of project, tag and name, not {' and '.join(selectors) or 'none'}")
        kind = values.get("kind")
        if kind is not None and (kind not in KINDS or kind == "project"):
            self._complain(fields["kind"], f"there is no kind {kind!r} of resources")
        if "kind" in fields and "project" in fields:
            self._complain(fields["kind"], "kind goes with tag or name: a project rule gives all that is in the project")
        return Rule(**values)

    def _items(self, node: yaml.Node | None, what: str) -> Iterator[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            yield from node.value
        elif node is not None:
            self._complain(node, f"{what} must be a list")

    def _mapping(self, node: yaml.Node, what: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        """The known keys of a mapping with their values; a key that is unknown, or there twice, is a problem."""
        fields: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            self._complain(node, f"{what} must have the keys {', '.join(known)}")
            return fields
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name not in known:
                self._complain(
                    key, f"{what} has no key {name!r}; it has {', '.join(known)}" if name else f"{what} has a key that is no text"
                )
            elif name in fields:
                self._complain(key, f"{what} has the key {name} twice")
            else:
                fields[name] = value
        return fields

    def _text(self, fields: dict[str, yaml.Node], key: str, owner: yaml.Node, what: str) -> str | None:
        node = fields.get(key)
        if node is None:
            if isinstance(owner, yaml.MappingNode):
                self._complain(owner, f"{what} needs the key {key}")
            return None
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            self._complain(node, f"{key} must be text; put it in quotes if it is")
            return None
        value: str = node.value
        if not value.strip() or not value.isprintable():
            self._complain(node, f"{key} is empty" if not value.strip() else f"{key} holds a character that cannot be printed")
            return None
        return value

    def _complain(self, node: yaml.Node, what: str) -> None:
        problem = (_line(node), what)
        if problem not in self.problems:  # of what an alias repeats
            self.problems.append(problem)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
