"""The first sentence of a report: what changed, and who must act. The first that is true of a fixed order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dashboard.report.tables import figure_text
from detections.alerting.standing import UNRESOLVED

_UNOWNED = "unowned"


def headline(report: Mapping[str, Any]) -> str:
    """One sentence: on gaps, a critical alert, an overdue exception, a metric that slipped, or nothing."""
    for told in (_gaps, _critical, _overdue, _slipped):
        sentence = told(report)
        if sentence is not None:
            return sentence
    return "Nothing needs action."


def _gaps(report: Mapping[str, Any]) -> str | None:
    lost = report["window"]["lost_messages"]
    if lost:
        return f"The broker removed {lost:,} message(s) before they were read; the platform team must act."
    short = [one for one in report["sources"] if (one["missing"] or 0) > 0]
    if short:
        worst = max(short, key=lambda one: (one["missing"], one["source"]))
        more = f", and {len(short) - 1} other source(s) have gaps" if len(short) > 1 else ""
        return (
            f"{worst['missing']:,} event(s) of {worst['source']} are provably missing{more};"
            f" the platform team must act (n = {worst['events']:,} that arrived)."
        )
    silent = [one for one in report["sources"] if one["silences"]]
    if silent:
        names = ", ".join(one["source"] for one in silent[:3])
        return f"Nothing was heard for too long from {names}; the platform team must act."
    return None


def _critical(report: Mapping[str, Any]) -> str | None:
    open_ones = [
        one for one in report["incidents"]
        if one["severity"] == "critical" and one["state"] in UNRESOLVED
    ]  # fmt: skip
    if not open_ones:
        return None
    first = open_ones[0]
    more = f", with {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
    return (
        f"A critical alert is unresolved{more}: {first['title']}, {first['about']};"
        f" {first['owner'] or _UNOWNED} must act (n = {first['count']:,})."
    )


def _overdue(report: Mapping[str, Any]) -> str | None:
    late = [one for one in report["exceptions"] if one["overdue"]]
    if not late:
        return None
    first = min(late, key=lambda one: (one["review_due_at"] or one["expires_at"] or "", one["exception_id"]))
    since = first["review_due_at"] or first["expires_at"]
    more = f"{len(late)} exceptions are" if len(late) > 1 else "1 exception is"
    return (
        f"{more} overdue, {first['exception_id']} the longest (since {str(since)[:10]});"
        f" {first['owner'] or _UNOWNED} must act."
    )


def _slipped(report: Mapping[str, Any]) -> str | None:
    """The metric beyond its target that worsened most, as a share of the target."""
    beyond = [one for one in report["metrics"] if one["met"] is False]
    worse = [one for one in beyond if _worsening(one) > 0]
    if worse:
        one = max(worse, key=lambda one: (_worsening(one), one["metric"]))
    else:
        # Of a first week nobody can say that it is worse: what is furthest from its target.
        new = [one for one in beyond if one["change"] is None]
        if not new:
            return None
        one = max(
            new, key=lambda one: (abs(one["value"] - one["target"]) / (one["target"] or 1), one["metric"])
        )
    was = "" if one["previous"] is None else f", {figure_text(one['previous'], one['unit'])} the week before"
    return (
        f"{one['title']}: {figure_text(one['value'], one['unit'])}{was}, beyond the target of"
        f" {figure_text(one['target'], one['unit'])} (n = {one['sample']:,}); "
        f"{_UNOWNED}, so the security team must act."
    )


def _worsening(one: Mapping[str, Any]) -> float:
    if one["change"] is None:
        return 0.0
    change = -one["change"] if one["better"] == "higher" else one["change"]
    return float(change / (one["target"] or 1))
