"""The pictures: palette safe for colour blindness, shapes and words beside every colour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import altair as alt
import polars as pl

from dashboard.wording import MARKS
from ledger.format.plain_text import plain

OTHER: Final = "no answer"
ANSWERS: Final = {"allow": "#0072B2", "deny": "#D55E00", "error": "#E69F00"}
SEVERITY_RAMP: Final = {
    "light": {
        "critical": "#7F0000",
        "high": "#B5342A",
        "medium": "#D9745A",
        "low": "#EBB09C",
        "informational": "#C9CDD2",
    },
    "dark": {
        "critical": "#FFD2C4",
        "high": "#F2937A",
        "medium": "#C65F47",
        "low": "#8C3E2D",
        "informational": "#5B626B",
    },
}
"""One hue, further from the ground for graver."""
_LINES: Final = {"light": "#0072B2", "dark": "#56B4E9"}
_NARROW: Final = "windowSize()[0] < 700"
"""A phone: names take less of the room."""
_CROSS: Final = "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z"
_SHAPES: Final = {"allow": "circle", "deny": _CROSS, "error": "triangle-up", OTHER: "square"}
_GREY: Final = "#7A8594"
NAMES_WIDTH: Final = 340
NARROW_NAMES_WIDTH: Final = 130
_TOLD: Final = (
    "nth", "kind", "principal", "action", "resource", "reason", "scopes", "dropped", "added", "outlived",
    "critical",
)  # fmt: skip
_TOOLTIP: Final = {
    "kind": "kind", "said": "answer", "principal": "principal", "action": "action", "resource": "resource",
    "reason": "reason", "scopes": "scopes", "dropped": "narrower by", "added": "WIDER BY",
}  # fmt: skip
ROW_HEIGHT: Final = 22


def ink(theme: str | None) -> str:
    """The colour of text marks, which do not follow the theme by themselves."""
    return "#E8EAED" if theme == "dark" else "#1A1D21"


def decisions_over_time(
    counts: pl.DataFrame, marks: Sequence[dict[str, Any]], theme: str | None, *, brush: bool = False
) -> Any:
    """Decisions as stacked steps by answer; `marks` (time, mark, what) are lines across them."""
    order = [word for word in ANSWERS if word in set(counts["decision"].to_list())]
    base = (
        _chart([{**row, "time": row["time"].isoformat()} for row in counts.to_dicts()])
        .mark_bar()
        .encode(
            x=alt.X("time:T", title=None, scale=alt.Scale(type="utc")),
            y=alt.Y("n:Q", title="decisions", stack="zero"),
            color=alt.Color(
                "decision:N",
                title=None,
                sort=order,
                scale=alt.Scale(domain=[*ANSWERS], range=[*ANSWERS.values()]),
                legend=alt.Legend(orient="top", labelExpr=_legend()),
            ),
            order=alt.Order("decision:N"),
            tooltip=[
                alt.Tooltip("time:T", title="from (UTC)", format="%Y-%m-%d %H:%M", formatType="time"),
                alt.Tooltip("decision:N", title="answer"),
                alt.Tooltip("n:Q", title="decisions", format=","),
            ],
        )
    )
    if brush:
        base = base.add_params(alt.selection_interval(name="brush", encodings=["x"]))
    lines = (
        _chart([{**one, "time": one["time"].isoformat()} for one in marks])
        .mark_rule(color=_GREY)
        .encode(
            x="time:T",
            strokeDash=alt.StrokeDash(
                "mark:N", legend=None, scale=alt.Scale(domain=["alert", "policy"], range=[[6, 3], [2, 3]])
            ),
            tooltip=[
                alt.Tooltip("mark:N", title="mark"),
                alt.Tooltip("what:N", title="what"),
                alt.Tooltip("time:T", title="at (UTC)", format="%Y-%m-%d %H:%M", formatType="time"),
            ],
        )
    )
    return _inked(alt.layer(base, lines).properties(height=220), theme)


def alerts_per_day(counts: pl.DataFrame, theme: str | None) -> Any:
    """Alerts by the day on which they were first seen, the graver the further from the ground."""
    ramp = SEVERITY_RAMP["dark" if theme == "dark" else "light"]
    chart = (
        _chart([{**row, "day": row["day"].isoformat()} for row in counts.to_dicts()])
        .mark_bar()
        .encode(
            x=alt.X("day:O", title=None, timeUnit="utcyearmonthdate"),
            y=alt.Y("n:Q", title="alerts", stack="zero"),
            color=alt.Color(
                "severity:N",
                title=None,
                sort=[*ramp],
                scale=alt.Scale(domain=[*ramp], range=[*ramp.values()]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("day:O", title="first seen"),
                "severity:N",
                alt.Tooltip("n:Q", title="alerts"),
            ],
        )
        .properties(height=200)
    )
    return _inked(chart, theme)


def waterfall(lanes: Sequence[dict[str, Any]], policies: Sequence[dict[str, Any]], theme: str | None) -> Any:
    """One lane per event, indented by delegation: from when it was to when the last thing below it was."""
    begin = min((lane["time"] for lane in lanes), default=None)

    def offset(time: datetime) -> float:
        return 0.0 if begin is None else (time - begin).total_seconds() * 1_000

    values = [
        {name: lane[name] for name in _TOLD}
        | {
            "from": offset(lane["time"]),
            "to": offset(lane["end"]),
            "answer": lane["decision"] if lane["decision"] in ANSWERS else OTHER,
            "said": lane["decision"] or "–",
            "lane": f"{lane['nth']:05d}|{_label(lane)}",
        }
        for lane in lanes
    ]
    span = max(1.0, *(row["to"] for row in values)) if values else 1.0
    # The axis writes the names, so that they follow the theme and leave the bars the rest of the room.
    names = alt.Axis(
        labelExpr="substring(datum.label, 6)",
        labelAlign="left",
        labelPadding=_by_room(NARROW_NAMES_WIDTH, NAMES_WIDTH),
        labelLimit=_by_room(NARROW_NAMES_WIDTH - 10, NAMES_WIDTH - 10),
        minExtent=_by_room(NARROW_NAMES_WIDTH, NAMES_WIDTH),
        maxExtent=_by_room(NARROW_NAMES_WIDTH, NAMES_WIDTH),
        ticks=False,
        domain=False,
        title=None,
        labelOverlap=False,
    )
    y = alt.Y("lane:N", axis=names, sort=None)
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in _TOOLTIP.items()]
    base = _chart(values)
    x = alt.X("from:Q", title="milliseconds from the first event", scale=alt.Scale(domain=[0, span * 1.03]))
    colour = alt.Color(
        "answer:N",
        legend=None,
        scale=alt.Scale(domain=[*ANSWERS, OTHER], range=[*ANSWERS.values(), _GREY]),
    )
    bars = base.mark_bar(height=6, opacity=0.45).encode(x=x, x2="to:Q", y=y, color=colour, tooltip=tooltip)
    heavy = (
        base.transform_filter("datum.critical")
        .mark_bar(height=12, opacity=0.75)
        .encode(x=x, x2="to:Q", y=y, color=colour, tooltip=tooltip)
    )
    outlived = (
        base.transform_filter("datum.outlived")
        .mark_rule(strokeDash=[3, 2], strokeWidth=2)
        .encode(x=x, x2="to:Q", y=y, color=alt.value("#CC79A7"))
    )
    shapes = alt.Scale(domain=[*_SHAPES], range=[*_SHAPES.values()])
    points = base.mark_point(size=70, filled=True, opacity=1).encode(
        x=x, y=y, color=colour, tooltip=tooltip, shape=alt.Shape("answer:N", legend=None, scale=shapes)
    )
    picked = alt.selection_point(name="hop", fields=["nth"], on="click", empty=False)
    changes = [{"at": offset(one["time"]), "what": f"policy {one['policy']}"} for one in policies]
    versions = (
        _chart(changes)
        .mark_rule(color=_GREY, strokeDash=[6, 3])
        .encode(x="at:Q", tooltip=[alt.Tooltip("what:N", title="from here on")])
    )
    chart = alt.layer(bars, heavy, outlived, points.add_params(picked), versions)
    return _inked(chart.properties(height=alt.Step(ROW_HEIGHT)).configure_view(stroke=None), theme)


def identity_map(edges: Sequence[Any], flags: dict[str, list[str]], theme: str | None) -> Any:
    """People, issuers, agents and tools in four columns; a line's width is how much went along it."""
    from dashboard.answers.identity import COLUMNS  # noqa: PLC0415  # its words, not its queries

    nodes = sorted(
        {node for one in edges for node in (one.start, one.end)}, key=lambda node: (node[0], node[1])
    )
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for number, column in enumerate(COLUMNS):
        own = [node for node in nodes if node[0] == column]
        for nth, node in enumerate(own):
            places[node] = (number, (nth + 1) / (len(own) + 1))
    widest = max((one.n for one in edges), default=1)
    lines = [
        {
            "x": places[one.start][0] + 0.01,
            "y": places[one.start][1],
            "x2": places[one.end][0] - 0.01,
            "y2": places[one.end][1],
            "n": one.n,
            "width": 1 + 7 * (one.n / widest) ** 0.5,
            "use": "not for 30 days" if one.dormant else "used",
            "from": one.start[1],
            "to": one.end[1],
        }
        for one in edges
    ]
    dots = [
        {
            "x": places[node][0],
            "y": places[node][1],
            "name": node[1],
            "column": node[0],
            "label": node[1]
            + (
                f"  ({', '.join(own)})"
                if (own := [flag for flag in flags.get(node[1], ()) if flag in ("shared", "unowned")])
                else ""
            ),
            "flagged": bool({"shared", "unowned"} & set(flags.get(node[1], ()))),
        }
        for node in nodes
    ]
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-0.15, 3.75]))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, 1], reverse=True))
    rules = (
        _chart(lines)
        .mark_rule(opacity=0.4, color=_LINES["dark" if theme == "dark" else "light"])
        .encode(
            x=x,
            y=y,
            x2="x2:Q",
            y2="y2:Q",
            strokeWidth=alt.StrokeWidth("width:Q", scale=None, legend=None),
            strokeDash=alt.StrokeDash(
                "use:N",
                title=None,
                legend=alt.Legend(orient="top"),
                scale=alt.Scale(domain=["used", "not for 30 days"], range=[[1, 0], [4, 4]]),
            ),
            tooltip=[
                "from:N",
                "to:N",
                alt.Tooltip("n:Q", title="decisions and credentials", format=","),
                "use:N",
            ],
        )
    )
    chosen = alt.selection_point(name="node", fields=["name"], on="click", empty=False)
    points = (
        _chart(dots)
        .mark_point(filled=True, size=110, opacity=1, strokeWidth=2)
        .encode(
            x=x,
            y=y,
            tooltip=[alt.Tooltip("name:N"), alt.Tooltip("column:N", title="is a")],
            color=alt.condition("datum.flagged", alt.value("#D55E00"), alt.value("#5F6B7A")),
            shape=alt.condition("datum.flagged", alt.value("diamond"), alt.value("circle")),
        )
    )
    names = (
        _chart(dots)
        .mark_text(align="left", dx=-6, dy=-13, limit=_by_room(85, 230), color=ink(theme))
        .encode(x=x, y=y, text="label:N")
    )
    tallest = max((sum(1 for node in nodes if node[0] == column) for column in COLUMNS), default=1)
    chart = alt.layer(rules, points.add_params(chosen), names)
    return _inked(chart.properties(height=max(260, 34 * tallest)).configure_view(stroke=None), theme)


def _chart(rows: Sequence[Any]) -> Any:
    """A chart of plain rows. Altair's own classes have few types to go by."""
    return alt.Chart(alt.InlineData(values=list(rows)))


def _inked(chart: Any, theme: str | None) -> Any:
    """With words that can be read: streamlit's own grey stands out from white by less than 4.5 to 1."""
    words = {"labelColor": ink(theme), "titleColor": ink(theme)}
    return chart.configure_axis(**words).configure_legend(**words)


def _by_room(narrow: int, wide: int) -> Any:
    return {"expr": f"{_NARROW} ? {narrow} : {wide}"}


def _legend() -> str:
    return f"{json.dumps(MARKS)}[datum.label] || datum.label"


def _label(lane: dict[str, Any]) -> str:
    mark = MARKS.get(lane["decision"], "·")[0]
    what = " ".join(part for part in (lane["action"], lane["resource"]) if part)
    deep = "›" * min(lane["depth"], 12)
    wider = "  ◀ wider than its parent" if lane["added"] else ""
    return plain(
        f"{deep}{' ' if deep else ''}{mark} {lane['kind']} {lane['principal']} {what}{wider}".strip()
    )
