"""The week's numbers with their weeks before, for those who meet over them.

marimo run notebooks/weekly_review.py -- --ledger decision-ledger --week 2026-W47
"""

import marimo

app = marimo.App(width="medium", app_title="Weekly review")


@app.cell
def _():
    import altair
    import marimo as mo

    from dashboard.report.numbers import weekly
    from dashboard.report.tables import TABLES, cell_text
    from dashboard.report.week import basis_of, week_of
    from ledger.reader import Ledger

    return Ledger, TABLES, altair, basis_of, cell_text, mo, week_of, weekly


@app.cell
def _(Ledger, basis_of, mo, week_of, weekly):
    arguments = mo.cli_args()
    ledger = Ledger.open(str(arguments.get("ledger") or "decision-ledger"))
    verified = ledger.verify()
    mo.stop(not verified.ok, mo.plain_text(f"The ledger is damaged; nothing is counted.\n{verified.text()}"))
    week = week_of(str(arguments["week"])) if arguments.get("week") else None
    report = weekly(ledger, basis_of(ledger, week, int(arguments["at"]) if arguments.get("at") else None))
    state = ", preliminary" if report["preliminary"] else ""
    mo.vstack(
        [
            mo.md(f"# Week {report['week']['name']}{state}"),
            mo.plain_text(report["headline"]),
            mo.plain_text(
                f"counted at entry {report['counted_at']['size']} of {report['counted_at']['origin']}, root "
                f"{report['counted_at']['root']}"
            ),
        ]
    )
    return (report,)


@app.cell
def _(altair, mo, report):
    points = [
        {"metric": one["title"], "week": point["week"], "value": point["value"], "n": point["sample"]}
        for one in report["metrics"]
        for point in one["trend"]
        if point["value"] is not None
    ]
    lines = (
        altair.Chart(altair.InlineData(values=points))
        .mark_line(point=True)
        .encode(
            x=altair.X("week:O", title=None),
            y=altair.Y("value:Q", title=None),
            tooltip=["metric:N", "week:O", "value:Q", "n:Q"],
        )
        .properties(width=320, height=110)
        .facet(facet=altair.Facet("metric:N", title=None), columns=2)
        .resolve_scale(y="independent")
    )
    mo.vstack([mo.md("## Eight weeks"), lines if points else mo.md("No data yet.")])


@app.cell
def _(TABLES, cell_text, mo, report):
    sections = []
    for table in TABLES:
        if table.on_paper:
            rows = [
                {
                    column.heading: cell_text(column, row[column.name], row.get("unit"))
                    for column in table.columns
                    if not column.wide
                }
                for row in report[table.name]
            ]
            sections += [
                mo.md(f"## {table.title}"),
                mo.ui.table(rows, selection=None, page_size=25) if rows else mo.plain_text(table.empty),
            ]
    mo.vstack(sections)


if __name__ == "__main__":
    app.run()
