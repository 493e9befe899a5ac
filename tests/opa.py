"""A real Open Policy Agent: of the machine, or built once by Go into a cache inside the checkout."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

VERSION = "v1.22.3"
MODULE = f"github.com/open-policy-agent/opa@{VERSION}"
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "opa" / VERSION
BUILD_SECONDS = 600


class OpaUnavailable(Exception):
    """No OPA can be had this way; the text says why."""


def opa() -> Path:
    """The program; the first process builds it, the others wait.

    Raises:
        OpaUnavailable: there is none, and no Go that could build it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    built = CACHE / "opa"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if built.is_file():
            return built
        go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
        if go is None:
            raise OpaUnavailable("there is no Go")
        environment = {**os.environ, "GOBIN": str(CACHE), "CGO_ENABLED": "0"}
        try:
            done = subprocess.run(
                [go, "install", MODULE], env=environment, capture_output=True, text=True,
                timeout=BUILD_SECONDS, check=False, cwd=CACHE,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise OpaUnavailable("Go did not build it in time") from None
        if done.returncode or not built.is_file():
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            raise OpaUnavailable(f"Go failed: {lines[-1]}")
    return built
