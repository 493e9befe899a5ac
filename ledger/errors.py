"""Every error this program raises on purpose: what happened, and what to do about it.

    LedgerError                  any of ours; carries `remedy` and `exit_code`
    ├── DamageError         1    the ledger is not what its log says it is
    ├── UsageError          2    the caller asked for something that cannot be
    │   └── NotALedger      2    there is no ledger at this place
    ├── OutsideError        3    something outside failed: storage, broker, port
    │   └── OutcomeUnknown  3    a write may or may not have happened; read back
    └── Fenced              3    another consumer has moved these offsets on; drop the batch

Exit codes are the contract of the command line: 1 the answer is "no", 2 wrong usage or
unusable input, 3 something outside failed.
"""

from __future__ import annotations


class LedgerError(Exception):
    """A plain sentence about what happened, with the remedy in a second one."""

    exit_code = 3

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class DamageError(LedgerError):
    """Sealed content does not check: a forged entry, a rollback, a changed file."""

    exit_code = 1


class UsageError(LedgerError):
    """The caller's request or input is unusable as it stands."""

    exit_code = 2


class NotALedger(UsageError):
    """There is no ledger at this place."""


class OutsideError(LedgerError):
    """Storage, broker or network failed; nothing half-written became visible."""


class OutcomeUnknown(OutsideError):
    """A conditional write got no clear answer; the caller must read the path back."""


class Fenced(LedgerError):
    """Another consumer already sealed these offsets; the batch must be dropped and re-read."""
