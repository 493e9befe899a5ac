"""Known vulnerabilities among the locked packages, and how many of them were really looked up.

`pip-audit` alone reports "no known vulnerabilities" when the advisory service does not know or does not
serve a package, so an index without advisories would pass everything. Here a package that was not
looked up is never a pass: the exit code is 1 for a vulnerability and 3 where the service could not be
asked. `AUDIT_UNREACHABLE=warn` turns the 3, and only the 3, into a warning that says what was not done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

LOCKS = ("requirements-dev.lock",)
"""The dev lock holds every package of `requirements.lock` at the same version."""
TIMEOUT_SECONDS = 300

VULNERABLE, UNREACHABLE = 1, 3


def audited(lock: Path) -> list[dict[str, Any]] | str:
    """One record per locked package, or the last line of what pip-audit said when it gave none."""
    with TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
        command += ["--progress-spinner=off", "--format=json", f"--output={report}", "-r", str(lock)]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {TIMEOUT_SECONDS} s"
        if not report.exists() or not report.read_text():
            return (run.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        dependencies: list[dict[str, Any]] = json.loads(report.read_text())["dependencies"]
        return dependencies


def main() -> int:
    """Audits every lock and prints what was found and what was not looked up."""
    code = 0
    for name in LOCKS:
        records = audited(Path(name))
        if isinstance(records, str):
            print(f"audit: NOT DONE for {name}: the advisory service could not be asked ({records}).")
            code = code or UNREACHABLE
            continue
        skipped = [record for record in records if "skip_reason" in record]
        asked = [record for record in records if "skip_reason" not in record]
        vulnerable = [record for record in asked if record["vulns"]]
        for record in vulnerable:
            ids = ", ".join(found["id"] for found in record["vulns"])
            print(f"audit: {record['name']} {record['version']} is vulnerable: {ids}")
        print(f"audit: {name}: {len(asked)} packages looked up, {len(vulnerable)} vulnerable.")
        if skipped:
            print(f"audit: NOT DONE for {len(skipped)} of {len(records)} packages of {name}:", end=" ")
            print("the advisory service does not answer for them here.")
            code = code or UNREACHABLE
        if vulnerable or not records:
            code = VULNERABLE
    if code == UNREACHABLE and os.environ.get("AUDIT_UNREACHABLE") == "warn":
        print("audit: this is a warning and not a pass (AUDIT_UNREACHABLE=warn): run `make audit` where")
        print("audit: the advisory service can be reached before a release.")
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
