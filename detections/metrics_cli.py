"""Command on metrics: whether things get better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ledger.console import AtOption, JsonOption, LedgerOption, VkeyOption, answer, open_ledger, table_text

if TYPE_CHECKING:
    from detections.metrics.figures import Figure

ENGINES = ("duckdb", "spark")
DEFAULT_PERIODS = 8
"""How many periods are shown where no time is given."""


def metrics(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    at: AtOption = None,
    since: Annotated[str | None, typer.Option("--from", help="Show from the period of this day on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Show before this day.")] = None,
    by: Annotated[str, typer.Option(help="day or week (ISO 8601).")] = "week",
    tz: Annotated[str, typer.Option(help="Whose days and weeks: an IANA time zone.")] = "UTC",
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="A line for each tenant, environment or source.")
    ] = None,
    engine: Annotated[str, typer.Option(help="duckdb, or spark where pyspark is installed.")] = "duckdb",
    as_json: JsonOption = False,
) -> None:
    """The eight metrics by day or week, each with its numerator, denominator, sample, target and change.

    Example: decision-ledger metrics --by day --from 2026-11-16 --tenant acme
    """
    from detections.metrics.figures import DIMENSIONS, Choice, figures
    from detections.metrics.kept_days import user_days
    from detections.metrics.periods import zone
    from detections.metrics.span import chosen_periods
    from detections.sealed_log import SealedLog
    from ledger.errors import UsageError

    if by not in ("day", "week"):
        raise UsageError(f"Metrics are not counted by {by!r}.", "Use day or week.")
    if group is not None and group not in DIMENSIONS:
        raise UsageError(f"Metrics are not grouped by {group!r}.", f"Use one of {', '.join(DIMENSIONS)}.")
    if engine not in ENGINES:
        raise UsageError(f"There is no engine {engine!r}.", f"Use one of {', '.join(ENGINES)}.")
    choice = Choice(by, zone(tz), tenant, environment, source, group)  # type: ignore[arg-type]  # judged above
    with open_ledger(ledger, vkey) as opened:
        periods = chosen_periods(opened, choice, since, until, DEFAULT_PERIODS)
        timeline = SealedLog.of(opened).timeline(at or opened.size)
        ask = None
        if engine == "spark":
            from detections.metrics.on_spark import SparkQuery, local_spark

            ask = SparkQuery(local_spark(), opened, at).trusted
        targets = timeline.last("targets")
        kept = user_days(opened) if at in (None, opened.size) else None
        found = figures(
            opened, periods, choice, timeline=timeline, targets=targets, at=at, kept=kept, ask=ask
        )
    # The first period is there for the change of the next.
    shown = [one for one in found if one.start != periods[0].start] if len(periods) > 1 else found
    columns = ["metric", "period", *([group] if group else []), "value", "n", "target", "met", "change"]
    rows = (
        [one.metric, one.period, *([one.group] if group else []), _value(one), _sample(one),
         f"{one.target:g}", "-" if one.met is None else "yes" if one.met else "NO",
         "-" if one.change is None else f"{one.change:+.4g}"]
        for one in shown
    )  # fmt: skip
    answer([one.as_json() for one in shown], table_text(columns, rows), as_json)


def _value(one: Figure) -> str:
    if one.value is None:
        return "no data"
    if one.unit == "share":
        return f"{one.value:.2%}"
    return f"{one.value:.4g} {one.unit}"


def _sample(one: Figure) -> str:
    if one.numerator is None or one.denominator is None:
        return f"{one.sample:,}"
    return f"{one.numerator:,.0f} of {one.denominator:,.0f}"
