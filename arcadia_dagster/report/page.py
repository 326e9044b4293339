"""The report as one HTML file: its words and tables are in `page.html.j2`, its figures and pictures come from the modules beside this.

The page needs nothing else: no script, font or address. Every name in it is somebody's, so everything is escaped but our own pictures.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from arcadia_dagster.ledger.export import whole_file
from arcadia_dagster.report import charts
from arcadia_dagster.report.figures import CHANGES, MONTHS, MOST_ROWS, Figures, kind_label

WASTE = {
    "unattached_volume": "Volume that is attached to nothing",
    "unassigned_reserved_ip": "Reserved IP that is assigned to nothing",
    "powered_off_droplet": "Droplet that is switched off",
    "load_balancer_without_targets": "Load balancer without targets",
    "snapshot_of_what_is_gone": "Snapshot of what is gone",
    "backup_of_what_is_gone": "Backup of what is gone",
}
MEANING = {
    "new": "not billed in the month before",
    "gone": "billed in the month before, not in this one",
    "resized": "another size, or other parts",
    "price": "the same size for the same time, at another amount",
    "usage": "for more or less time, or another number of backups",
    "account_level": "what the account pays as a whole",
    "tax": "taxes",
    "credit": "credits; below zero where more was credited",
    "unexplained": "lines whose resource is not certain",
}


def html(figures: Figures) -> str:
    """The whole page."""
    several = len(figures.accounts) > 1
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "money": charts.money,
        "signed": lambda usd: charts.money(usd, signed=True),
        "month": lambda month: f"{month:%B %Y}",
        "short": lambda month: f"{month:%b %Y}",
        "moment": _moment,
        "percent": _percent,
        "kind": kind_label,
    }
    draw: dict[str, Callable[..., Markup]] = {
        "by_month": lambda stack: _picture(charts.by_month, stack),
        "shares_picture": lambda: _picture(charts.shares, figures.shares, several=several),
        "changes_picture": lambda: _picture(charts.changes, figures.changes),
        "rates_picture": lambda: _picture(charts.rates, figures.rates),
        "usage_picture": lambda: _picture(charts.usage, figures.usage),
    }
    template = environment.get_template("page.html.j2")
    return template.render(
        f=figures,
        several=several,
        colours=charts.COLOURS,
        labels=CHANGES,
        meaning=MEANING,
        reasons=WASTE,
        most_months=MONTHS,
        most_rows=MOST_ROWS,
        **draw,
    )


def write(path: Path, figures: Figures) -> None:
    """Write the page to `path`, whose folder is made; afterwards the whole page is there, or what was there before.

    Raises OSError where the folder cannot be made, ExportError where the file cannot be written.
    """
    text = html(figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(text.encode())


def _picture(chart: Callable[..., str], *what: Any, **options: Any) -> Markup:
    """The picture twice, for screens of either width; the page's style shows one of them."""
    wide, narrow = (chart(*what, look, **options) for look in (charts.WIDE, charts.NARROW))
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(Markup(wide), Markup(narrow))  # noqa: S704


def _moment(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def _percent(rate: Decimal | None) -> str:
    """`99.98 %`; rates have four digits, and 1 alone is `100 %`."""
    if rate is None:
        return "\u2013"
    return f"{rate * 100:.2f}".removesuffix(".00") + " %"
