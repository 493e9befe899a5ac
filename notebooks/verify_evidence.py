"""For an auditor who has a bundle and a key, and nothing else: what is proved, and what is not.

marimo run notebooks/verify_evidence.py -- --bundle evidence.json --vkey example.org/prod+1a2b3c4d+AY…
"""

import marimo

app = marimo.App(width="medium", app_title="Verify evidence")


@app.cell
def _():
    from pathlib import Path

    import marimo as mo

    from ledger.errors import LedgerError
    from ledger.log.named_keys import read_vkey
    from ledger.query.evidence_bundle import verify_bundle

    return LedgerError, Path, mo, read_vkey, verify_bundle


@app.cell
def _(LedgerError, Path, mo, read_vkey, verify_bundle):
    arguments = mo.cli_args()
    file, key = arguments.get("bundle"), arguments.get("vkey")
    mo.stop(
        not file or not key,
        mo.md("Give `--bundle FILE` and `--vkey KEY`, the key from elsewhere than the file."),
    )
    try:
        proved, refused = verify_bundle(Path(str(file)).read_bytes(), read_vkey(str(key)).text), None
    except LedgerError as error:
        proved, refused = None, str(error)
    mo.vstack(
        [
            mo.md("# Verify evidence"),
            mo.plain_text(f"REFUSED: {refused}")
            if proved is None
            else mo.plain_text(
                f"{len(proved.events)} event(s) of {proved.origin} are proved, at checkpoint "
                f"{max(one.size for one in proved.checkpoints)}"
            ),
        ]
    )
    return (proved,)


@app.cell
def _(mo, proved):
    mo.stop(proved is None)
    mo.vstack(
        [
            mo.md("## The events, as they were sealed"),
            mo.ui.table(
                [{name: str(value) for name, value in event.items()} for event in proved.events],
                selection=None,
                page_size=25,
            ),
            mo.md(
                "Proved: each event stood, letter by letter, at its place in a segment whose root is in the log, and the "
                "log's key signed a checkpoint that holds that entry. Not proved: that the events are all there were, or "
                "that what they say is true. For the first ask for the ledger and run `verify`."
            ),
        ]
    )


if __name__ == "__main__":
    app.run()
