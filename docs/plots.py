"""The curves of docs/performance.json as pictures, drawn by Altair without a browser."""

from __future__ import annotations

import io
from typing import Any, Final

import altair as alt

PLOT_WIDTH: Final = 240
PLOT_HEIGHT: Final = 130
COLUMNS: Final = 3
OURS: Final = "#2f6f9f"
TARGET: Final = "#b5532a"


def plot(curve: dict[str, Any]) -> str:
    """One small picture per quantity, all over the same sizes, as SVG; the target is a broken line."""
    small = [_line(name, line, curve) for name, line in curve["lines"].items()]
    together = alt.concat(*small, columns=COLUMNS, spacing=24).configure_view(stroke=None)
    drawn = io.StringIO()
    together.save(drawn, format="svg")
    return drawn.getvalue()


def _line(name: str, line: dict[str, Any], curve: dict[str, Any]) -> alt.LayerChart | alt.FacetChart:
    rows = [{"at": at, "value": value} for at, value in line["points"]]
    wide = max(curve["sizes"]) > 1_000
    across = alt.X(
        "at:Q", title=curve["along"], scale=alt.Scale(type="log" if wide else "linear", zero=False),
        axis=alt.Axis(values=curve["sizes"], format="~s", grid=False),
    )  # fmt: skip
    highest = max([value for _, value in line["points"]] + list(line["targets"].values()))
    up = alt.Y(
        "value:Q", title=line["unit"], scale=alt.Scale(domain=[0, 1.1 * highest]), axis=alt.Axis(tickCount=4)
    )
    drawn = alt.Chart(alt.InlineData(values=rows), title=name, width=PLOT_WIDTH, height=PLOT_HEIGHT)
    layers: list[alt.Chart] = [
        drawn.mark_line(color=OURS, point=alt.OverlayMarkDef(color=OURS)).encode(across, up)
    ]
    if line["targets"]:
        kept = [{"at": int(at), "value": value} for at, value in line["targets"].items()]
        bound = alt.Chart(alt.InlineData(values=kept), width=PLOT_WIDTH, height=PLOT_HEIGHT)
        layers.append(bound.mark_line(color=TARGET, strokeDash=[4, 3]).encode(across, up))
    return alt.layer(*layers)
