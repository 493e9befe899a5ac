"""A report from a ledger: verified, counted, put into its forms and proved."""

from __future__ import annotations

from typing import Any

from dashboard.report.numbers import weekly
from dashboard.report.report_folder import forms, proofs
from dashboard.report.week import basis_of, week_of
from ledger.errors import DamageError
from ledger.format.checkpoint import open_checkpoint
from ledger.reader import Ledger


def make_report(
    ledger: Ledger, week: str | None = None, note: bytes | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The report and the files of its folder, proved by the checkpoint in `note` (None: the newest).

    Raises:
        DamageError: the ledger does not verify, or `note` is no checkpoint of it.
        UsageError: there is no such week in it.
    """
    verified = ledger.verify()
    if not verified.ok:
        damage = verified.damaged
        raise DamageError(
            f"The ledger is damaged ({len(damage)} findings, the first: {damage[0].where}: "
            f"{damage[0].message}).",
            "A report of it would say nothing; `decision-ledger verify` names all that is damaged.",
        )
    size = None if note is None else open_checkpoint(note, ledger.state.key).size
    if size is not None and size > ledger.size:
        raise DamageError(
            f"The checkpoint covers {size} entries, the ledger has {ledger.size}.",
            "The ledger was rolled back, or the checkpoint is of another one.",
        )
    basis = basis_of(ledger, None if week is None else week_of(week), size)
    report = weekly(ledger, basis)
    return report, {**forms(report), **proofs(ledger, report, ledger.sealed.note if note is None else note)}
