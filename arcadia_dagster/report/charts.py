"""The report's pictures: figures in, SVG out, as text without scripts, fonts or addresses. What they show is decided in `figures.py`.

Drawn by Altair and vl-convert, which fetch nothing. Text goes in as data, never as an expression, since names in it are other people's.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import altair as alt
import vl_convert

from arcadia_dagster.report.figures import CHANGES, MOST_ROWS, Changes, Rate, Share, Stack

# Okabe and Ito's colours, which people of every colour vision tell apart; the last one, a grey, is for what is added up.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
LESS, MORE = COLOURS[0], COLOURS[5]


@dataclass(frozen=True)
class Look:
    """How wide a picture is, in px, the colour of its text and lines, and that behind it (None: whatever is there)."""

    width: int
    ink: str = "currentColor"
    paper: str | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it is for a phone: fewer labels, in shorter words."""
        return self.width < 500


WIDE, NARROW = Look(720), Look(336)
ALONE = Look(720, ink="#1a1a1a", paper="white")


def by_month(stack: Stack, look: Look) -> str:
    """Bars of USD by month, stacked; each part is named beside the last bar, next to where it stands in it."""
    room = 124 if look.is_narrow else 176
    parts: list[dict[str, Any]] = []
    tops: list[float] = []
    low = high = 0.0
    for month, row in zip(stack.months, stack.usd, strict=True):
        above = below = 0.0
        tops = []
        for place, usd in enumerate(row):
            if usd > 0:
                start, above = above, above + float(usd)
                end = above
            else:  # credits hang below the line
                start, below = below, below + float(usd)
                end = below
            tops.append((start + end) / 2)
            if usd:
                parts.append({"month": month.isoformat(), "from": start, "to": end, "colour": _colour(place, stack)})
        low, high = min(low, below), max(high, above)
    height, high = 260, high or 1.0
    scale = alt.Scale(domain=[low, high], nice=False)
    order = [month.isoformat() for month in stack.months]
    bars = (
        alt.Chart(_data(parts))
        .mark_bar()
        .encode(
            x=alt.X("month:O", scale=alt.Scale(domain=order, paddingInner=0.2, paddingOuter=0.1), axis=_month_axis(stack.months, look)),
            y=alt.Y("from:Q", scale=scale, axis=alt.Axis(title="USD", format=",.2~f", tickCount=5)),
            y2="to:Q",
            color=alt.Color("colour:N", scale=None),
        )
    )
    zero = alt.Chart(_data([{"from": 0}])).mark_rule(color=look.ink, opacity=0.5).encode(y="from:Q")
    ys = _spread([height * (1 - (top - low) / (high - low)) for top in tops], gap=15, most=height)
    names = [
        {"y": y, "name": label(name, 13 if look.is_narrow else 20), "colour": _colour(place, stack)}
        for place, (name, y) in enumerate(zip(stack.names, ys, strict=True))
    ]
    return _svg([bars, zero, *_labels(names, look.width - room)], look, width=look.width - room - 50, height=height)


def shares(rows: Sequence[Share], look: Look, *, several: bool) -> str:
    """Bars of USD, the largest first; what comes after MOST_ROWS is one bar."""
    bars = [(row.name + (f" · {row.account}" if several and row.kind is None else ""), row.usd) for row in rows[:MOST_ROWS]]
    if rest := rows[MOST_ROWS:]:
        bars.append((f"{len(rest):,} others", sum((row.usd for row in rest), Decimal(0))))
    return _bars([(name, usd, COLOURS[0] if place < MOST_ROWS else COLOURS[-1]) for place, (name, usd) in enumerate(bars)], look)


def changes(what: Changes, look: Look) -> str:
    """Bars of USD more, to the right, or less, to the left, by the class of change."""
    return _bars([(CHANGES[change], usd, LESS if usd < 0 else MORE) for change, _, usd in what.by_class], look, signed=True)


def rates(rows: Sequence[Rate], look: Look) -> str:
    """How much is matched by month, in lines and in dollars: two lines, of which one is dashed."""
    room = 86
    points: list[dict[str, Any]] = [
        {"month": row.month.isoformat(), "rate": float(rate), "of": of}
        for row in rows
        for of, rate in (("lines", row.line_rate), ("dollars", row.usd_rate))
        if rate is not None
    ]
    low = min((point["rate"] for point in points), default=1.0)
    months = [row.month for row in rows]
    low = min(0.9, int(low * 10) / 10)
    colours = alt.Scale(domain=["dollars", "lines"], range=[COLOURS[5], COLOURS[0]])
    lines = (
        alt.Chart(_data(points))
        .mark_line(point=alt.OverlayMarkDef(size=25), strokeWidth=2)
        .encode(
            x=alt.X("month:O", scale=alt.Scale(domain=[month.isoformat() for month in months]), axis=_month_axis(months, look)),
            y=alt.Y("rate:Q", scale=alt.Scale(domain=[low, 1]), axis=alt.Axis(title="matched", format=".0%", tickCount=5)),
            color=alt.Color("of:N", scale=colours, legend=None),
            strokeDash=alt.StrokeDash("of:N", scale=alt.Scale(domain=["dollars", "lines"], range=[[1, 0], [5, 3]]), legend=None),
        )
    )
    height = 180
    last = {point["of"]: point["rate"] for point in points}
    ys = _spread([height * (1 - (rate - low) / (1 - low)) for rate in last.values()], gap=15, most=height)
    names = [{"y": y, "name": name, "colour": COLOURS[5] if name == "dollars" else COLOURS[0]} for name, y in zip(last, ys, strict=True)]
    return _svg([lines, *_labels(names, look.width - room)], look, width=look.width - room - 60, height=height)


def usage(days: Sequence[tuple[date, int, Decimal]], look: Look) -> str:
    """USD used by day of the month: this month, and the last one dashed."""
    room, height = 100, 200
    months = sorted({month for month, _, _ in days})
    names = {month: f"{month:%b %Y}" for month in months}
    points = [{"day": day, "usd": float(usd), "month": names[month]} for month, day, usd in days]
    colours = dict(zip(months, (COLOURS[7], COLOURS[0]), strict=True))
    high = max((float(usd) for _, _, usd in days), default=0.0)
    high = high if high > 0 else 1.0
    domain = [names[month] for month in months]
    lines = (
        alt.Chart(_data(points))
        .mark_line(point=alt.OverlayMarkDef(size=20), strokeWidth=2)
        .encode(
            x=alt.X("day:Q", scale=alt.Scale(domain=[1, 31], nice=False), axis=alt.Axis(title="day of the month", tickCount=6)),
            y=alt.Y("usd:Q", scale=alt.Scale(domain=[0, high]), axis=alt.Axis(title="USD", format=",.2~f", tickCount=5)),
            color=alt.Color("month:N", scale=alt.Scale(domain=domain, range=[colours[month] for month in months]), legend=None),
            strokeDash=alt.StrokeDash("month:N", scale=alt.Scale(domain=domain, range=[[5, 3], [1, 0]]), legend=None),
        )
    )
    last = {month: float(usd) for month, _, usd in days}
    ys = _spread([height * (1 - last[month] / high) for month in months], gap=15, most=height)
    labels = [{"y": y, "name": names[month], "colour": colours[month]} for month, y in zip(months, ys, strict=True)]
    return _svg([lines, *_labels(labels, look.width - room)], look, width=look.width - room - 60, height=height)


def label(name: str, most: int) -> str:
    """A name as it may stand in a picture: on one line, at most so many characters, and kept from turning the text around it."""
    name = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in name)
    name = " ".join(name.split()) or "(no name)"
    # First-strong isolate, pop directional isolate
    return "\u2068" + (name if len(name) <= most else name[: most - 1].rstrip() + "…") + "\u2069"


def money(usd: Decimal, *, signed: bool = False) -> str:
    """`1,234.50`, with a true minus; `signed`: with a plus too."""
    sign = "\u2212" if usd < 0 else "+" if signed and usd > 0 else ""
    return f"{sign}{abs(usd):,.2f}"


def _colour(place: int, stack: Stack) -> str:
    return COLOURS[-1] if stack.rest and place == len(stack.names) - 1 else COLOURS[place]


def _bars(rows: Sequence[tuple[str, Decimal, str]], look: Look, *, signed: bool = False) -> str:
    """Horizontal bars, the name to the left and the number at the end of each."""
    left, right = (132, 84) if look.is_narrow else (230, 100)
    data = [
        {"place": place, "usd": float(usd), "colour": colour, "name": label(name, 16 if look.is_narrow else 29),
         "number": money(usd, signed=signed)}
        for place, (name, usd, colour) in enumerate(rows)
    ]  # fmt: skip
    ends = [0.0, *(float(usd) for _, usd, _ in rows)]
    low, high = min(ends), max(ends)
    width = look.width - left - right
    if low < 0:  # the number of a bar to the left stands on its left
        left, width = left + 60, width - 60
    y = alt.Y("place:O", scale=alt.Scale(paddingInner=0.25, paddingOuter=0.1), axis=None)
    base = alt.Chart(_data(data)).encode(y=y)
    x = alt.X("usd:Q", scale=alt.Scale(domain=[low, high or 1.0], nice=False), axis=None)
    bars = base.mark_bar().encode(x=x, color=alt.Color("colour:N", scale=None))
    names = base.mark_text(align="left", baseline="middle").encode(x=alt.value(-left), text="name:N")
    ends_at = base.encode(x=x, text="number:N")
    numbers = [
        ends_at.mark_text(align="left", baseline="middle", dx=5).transform_filter("datum.usd >= 0"),
        ends_at.mark_text(align="right", baseline="middle", dx=-5).transform_filter("datum.usd < 0"),
    ]
    zero = alt.Chart(_data([{"x": 0}])).mark_rule(color=look.ink, opacity=0.5).encode(x=alt.X("x:Q", axis=None))
    return _svg([bars, zero, names, *numbers], look, width=width, height=max(len(rows), 1) * 22)


def _data(rows: Sequence[dict[str, Any]]) -> alt.Data:
    return alt.Data(values=list(rows))  # type: ignore[no-untyped-call]


def _month_axis(months: Sequence[date], look: Look) -> alt.Axis:
    """A month's name under as many bars as have room for it, the newest among them."""
    step = max(1, -(-len(months) // (2 if look.is_narrow else 6)))
    named = [month.isoformat() for month in months[::-1][::step]]
    return alt.Axis(title=None, values=named, labelExpr="timeFormat(toDate(datum.value), '%b %Y')", labelAngle=0, ticks=False, domain=False)


def _spread(ys: Sequence[float], *, gap: float, most: float) -> list[float]:
    """Places near `ys`, in their order, that are `gap` apart, none below `most` unless there are too many."""
    order = sorted(range(len(ys)), key=lambda place: (ys[place], -place))
    places = [0.0] * len(ys)
    floor = most
    for place in reversed(order):
        places[place] = floor = min(ys[place], floor)
        floor -= gap
    ceiling = min(places, default=0.0)
    for place in order:  # and back from the top, where they went beyond it
        places[place] = ceiling = max(places[place], ceiling, 0.0)
        ceiling += gap
    return places


def _labels(rows: Sequence[dict[str, Any]], x: int) -> list[alt.Chart]:
    """Names with a square of their colour, to the right of what is drawn: `y`, `name`, `colour`, in px from the top."""
    at = alt.Y("y:Q", scale=None, axis=None)
    base = alt.Chart(_data(rows))
    return [
        base.mark_square(size=80, opacity=1).encode(x=alt.value(x - 42), y=at, color=alt.Color("colour:N", scale=None)),
        base.mark_text(align="left", baseline="middle").encode(x=alt.value(x - 33), y=at, text="name:N"),
    ]


def _svg(layers: Sequence[alt.Chart], look: Look, *, width: int, height: int) -> str:
    font = "system-ui, sans-serif"
    size = 12 if look.is_narrow else 13
    text = {"labelFont": font, "titleFont": font, "labelFontSize": size, "titleFontSize": size, "titleFontWeight": "normal"}
    ink = {"labelColor": look.ink, "titleColor": look.ink, "domainColor": look.ink, "tickColor": look.ink, "gridColor": look.ink}
    specification = alt.layer(*layers).to_dict() | {"width": width, "height": height}
    specification["config"] = {
        "aria": False,  # the page says what it shows, and has the numbers beside it
        "background": look.paper or "transparent",
        # The reader's font may be wider than the one that was measured.
        "padding": {"left": 5, "top": 5, "right": 20, "bottom": 5},
        "view": {"stroke": None},
        "axis": {**text, **ink, "gridOpacity": 0.15, "domainOpacity": 0.5},
        "text": {"font": font, "fontSize": size, "color": look.ink},
    }
    svg: str = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
    return svg
