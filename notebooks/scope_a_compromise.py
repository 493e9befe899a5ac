"""Given a credential: what was derived from it, what was done with it, and what must be taken back.

marimo run notebooks/scope_a_compromise.py -- --ledger decision-ledger --credential 5106a6…
"""

import marimo

app = marimo.App(width="medium", app_title="Scope a compromise")


@app.cell
def _():
    import altair
    import marimo as mo

    from dashboard.access import local_viewer
    from dashboard.answers.blast_radius import compromise
    from dashboard.statements import Reading
    from ledger.reader import Ledger

    return Ledger, Reading, altair, compromise, local_viewer, mo


@app.cell
def _(Ledger, Reading, local_viewer, mo):
    arguments = mo.cli_args()
    ledger = Ledger.open(str(arguments.get("ledger") or "decision-ledger"))
    size = int(arguments.get("at") or ledger.size)
    reading = Reading(ledger, local_viewer(), size, lambda: ledger)
    credential = str(arguments.get("credential") or "")
    mo.stop(not credential, mo.md("Give `--credential ID`."))
    mo.vstack(
        [
            mo.md("# Scope a compromise"),
            mo.md("This notebook reads with the rights of whoever runs it, past the roles of the dashboard."),
            mo.plain_text(
                f"credential {credential}\n{ledger.state.origin} as of entry {size} of {ledger.size}, root "
                f"{ledger.sealed.tree.root(size).hex()}"
            ),
        ]
    )
    return credential, reading


@app.cell
def _(compromise, credential, mo, reading):
    found = compromise(reading, credential)
    standing = [one for one in found["credentials"] if one["stands"]]
    classes = ", ".join(found["data_classes"]) or "none that is known"
    mo.plain_text(
        f"{len(found['credentials'])} credentials of {len(found['sessions'])} sessions, {len(standing)} of them still "
        f"stand; {sum(one['n'] for one in found['uses']):,} uses; data classes: {classes}"
    )
    return (found,)


@app.cell
def _(found, mo):
    mo.vstack(
        [
            mo.md("## It, and what was derived from it"),
            mo.ui.table(found["credentials"], selection=None, page_size=25),
        ]
    )


@app.cell
def _(altair, found, mo):
    uses = [
        {
            "time": one["last"].isoformat(),
            "principal": one["principal"] or "nobody named",
            "answer": one["decision"] or one["kind"],
            "n": one["n"],
        }
        for one in found["uses"]
    ]
    picture = (
        altair.Chart(altair.InlineData(values=uses))
        .mark_point(filled=True, size=80)
        .encode(
            x=altair.X("time:T", title="last use (UTC)", scale=altair.Scale(type="utc")),
            y=altair.Y("principal:N", title=None),
            shape="answer:N",
            color="answer:N",
            tooltip=["principal:N", "answer:N", "n:Q"],
        )
        .properties(width=720)
    )
    mo.vstack(
        [
            mo.md("## What was done with it"),
            picture if uses else mo.md("Nothing was done with it."),
            mo.ui.table(found["uses"], selection=None, page_size=25),
        ]
    )
    return (uses,)


@app.cell
def _(found, mo):
    took = [
        one["seconds_to_revocation"]
        for one in found["credentials"]
        if one["seconds_to_revocation"] is not None
    ]
    said = (
        f"{len(took)} were revoked after a signal, the slowest after {max(took):.1f} s"
        if took
        else ("none was revoked after a signal")
    )
    commands = "\n".join(
        f"decision-ledger issuer revoke {target} --reason compromise" for target in found["to_revoke"]
    )
    mo.vstack(
        [mo.md("## To take back"), mo.plain_text(said), mo.plain_text(commands or "Nothing stands any more.")]
    )
    return (commands,)


if __name__ == "__main__":
    app.run()
