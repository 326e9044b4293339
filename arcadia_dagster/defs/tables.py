"""What a person sees of the ledger's tables in the Dagster UI: column schemas, and a few rows as a Markdown table."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import dagster as dg
from sqlalchemy import Engine, Row, Table, text


def table_metadata(table: Table, name: str | None = None) -> dict[str, Any]:
    """The definition metadata of an asset that fills `table` (or the view `name` over it)."""
    return {"dagster/table_name": f"arcadia.{name or table.name}", "dagster/column_schema": _schema(table)}


@cache  # dozens of assets fill one table
def _schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.type).lower(),
                description=column.comment,
                constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
            )
            for column in table.columns
        ]
    )


def preview(engine: Engine, query: str, values: Mapping[str, Any] | None = None) -> dg.MarkdownMetadataValue:
    """The rows of a query as a Markdown table."""
    with engine.connect() as conn:
        return as_markdown(conn.execute(text(query), values or {}).all())


def as_markdown(rows: Sequence[Row[Any]]) -> dg.MarkdownMetadataValue:
    """Rows of one query as a Markdown table."""
    if not rows:
        return dg.MetadataValue.md("(no rows)")
    names = rows[0]._fields
    lines = [f"| {' | '.join(names)} |", f"|{':--|' * len(names)}"]
    lines += [f"| {' | '.join('' if value is None else str(value).replace('|', '&#124;') for value in row)} |" for row in rows]
    return dg.MetadataValue.md("\n".join(lines))


def bars(rows: Sequence[tuple[str, Any]], unit: str = "") -> dg.MarkdownMetadataValue:
    """(label, number) rows as a bar chart of text, which every place that shows Markdown can show."""
    most = max((abs(number) for _, number in rows), default=0) or 1
    lines = ["| | | |", "|:--|--:|:--|"]
    for label, number in rows:
        bar = "█" * max(1, round(24 * abs(number) / most)) if number else ""
        lines.append(f"| {label} | {unit}{number:,} | {bar} |")
    return dg.MetadataValue.md("\n".join(lines))
