"""From an alert or a trace id to the whole chain, its timeline, and what else was touched.

marimo run notebooks/trace_an_incident.py -- --ledger decision-ledger --trace 4bf9…
python notebooks/trace_an_incident.py --ledger decision-ledger --alert 7f9c…
"""

import marimo

app = marimo.App(width="medium", app_title="Trace an incident")


@app.cell
def _():
    import textwrap

    import marimo as mo

    from dashboard import charts
    from dashboard.access import local_viewer
    from dashboard.answers.alerts import one_alert
    from dashboard.answers.blast_radius import touched
    from dashboard.answers.decisions import evidence
    from dashboard.answers.traces import trace
    from dashboard.statements import Reading
    from ledger.query.evidence_bundle import verify_bundle
    from ledger.reader import Ledger

    return (
        Ledger,
        Reading,
        charts,
        evidence,
        local_viewer,
        mo,
        one_alert,
        textwrap,
        touched,
        trace,
        verify_bundle,
    )


@app.cell
def _(Ledger, Reading, local_viewer, mo):
    arguments = mo.cli_args()
    ledger = Ledger.open(str(arguments.get("ledger") or "decision-ledger"))
    size = int(arguments.get("at") or ledger.size)
    reading = Reading(ledger, local_viewer(), size, lambda: ledger)
    mo.vstack(
        [
            mo.md("# Trace an incident"),
            mo.md("This notebook reads with the rights of whoever runs it, past the roles of the dashboard."),
            mo.plain_text(
                f"{ledger.state.origin} as of entry {size} of {ledger.size}, root "
                f"{ledger.sealed.tree.root(size).hex()}"
            ),
        ]
    )
    return arguments, ledger, reading


@app.cell
def _(arguments, mo, one_alert, reading):
    alert = one_alert(reading, str(arguments["alert"])) if arguments.get("alert") else None
    traces = [row["trace_id"] for row in (alert or {}).get("rows", []) if row["trace_id"]]
    trace_id = str(arguments.get("trace") or (traces[0] if traces else "")) or None
    mo.stop(
        trace_id is None, mo.md("Give `--trace ID`, or `--alert ID` of an alert whose evidence has a trace.")
    )
    mo.plain_text(
        f"trace {trace_id}"
        if alert is None
        else f"alert {alert['alert_id']}: {alert['title'] or alert['rule_id']}, {alert['about']}\ntrace {trace_id}"
    )
    return (trace_id,)


@app.cell
def _(mo, reading, textwrap, trace, trace_id):
    found = trace(reading, trace_id)
    mo.vstack(
        [
            mo.md("## What happened"),
            mo.plain_text(textwrap.fill(found["sentence"], 100)),
            mo.plain_text("  →  ".join(found["chain"]) or "no delegation chain is in these events"),
            mo.plain_text(
                f"{found['events']:,} events from {found['first']} to {found['last']}; {found['decisions']}"
            ),
        ]
    )
    return (found,)


@app.cell
def _(charts, found, mo):
    mo.vstack(
        [mo.md("## When"), charts.waterfall(found["lanes"], found["policies"], None).properties(width=460)]
    )


@app.cell
def _(found, mo):
    shown = (
        "time",
        "depth",
        "kind",
        "decision",
        "principal",
        "action",
        "resource",
        "reason",
        "scopes",
        "added",
    )
    lanes = [{name: lane[name] for name in shown} for lane in found["lanes"]]
    mo.vstack([mo.md("## Every step"), mo.ui.table(lanes, selection=None, pagination=True, page_size=25)])
    return (lanes,)


@app.cell
def _(mo, reading, touched, trace_id):
    reached = touched(reading, trace_id)
    mo.vstack(
        [
            mo.md("## What else this session, credential or agent touched"),
            mo.ui.table(reached, selection=None, page_size=25)
            if reached
            else mo.md("Nothing besides this trace."),
        ]
    )
    return (reached,)


@app.cell
def _(evidence, found, ledger, mo, reading, verify_bundle):
    names = tuple(f"{lane['source']}#{lane['event_id']}" for lane in found["lanes"])
    bundle = evidence(reading, names)
    proved = verify_bundle(bundle, ledger.state.key.text)
    mo.vstack(
        [
            mo.md("## Proof"),
            mo.plain_text(
                f"{len(proved.events)} of {len(names)} events are proved at checkpoint "
                f"{max(one.size for one in proved.checkpoints)} of {proved.origin}"
            ),
            mo.download(bundle, filename="evidence.json", label="Evidence bundle"),
        ]
    )
    return (proved,)


if __name__ == "__main__":
    app.run()
