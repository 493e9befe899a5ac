"""Where answers go, under which key, and what bounds them: one YAML file. Without it no engine answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ledger.errors import UsageError
from ledger.settings.yaml_file import read_yaml

Address = Annotated[str, StringConstraints(pattern=r"^https?://", max_length=2_000)]
MOST_PER_HOUR: Final = 1_000


class ResponseSettings(BaseModel):
    """`signals` takes security events (RFC 8935) for `audience`; `issuer` is who we are to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signals: Address
    audience: Address
    issuer: Address
    key_file: Path
    stop_file: Path
    """While there is such a file nothing is revoked."""
    per_hour: int = Field(default=20, ge=1, le=MOST_PER_HOUR)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    response: ResponseSettings


def read_response(path: Path) -> ResponseSettings:
    """The settings of a YAML file; paths in it count from its own folder.

    Raises:
        UsageError: with the line of what is wrong.
    """
    document = read_yaml(path)
    try:
        found = _File.model_validate(document.value).response
    except ValidationError as error:
        raise document.refusal(error, "docs/detections.md shows a file.", whole="response") from None
    if found.signals.startswith("http://") and not _is_loopback(found.signals):
        raise UsageError(
            f"{path}: signals is not https, and not on this machine.",
            "A signal travels encrypted: write https://.",
        )
    here = path.parent
    return found.model_copy(update={"key_file": here / found.key_file, "stop_file": here / found.stop_file})


def _is_loopback(address: str) -> bool:
    host = address.removeprefix("http://").partition("/")[0]
    name = host.rpartition(":")[0] or host
    return name in ("localhost", "127.0.0.1", "[::1]")
