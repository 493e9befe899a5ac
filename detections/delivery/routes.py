"""Routes: where alerts go, by severity and tenant, in which form, and when they are held back."""

from __future__ import annotations

from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from detections.metrics.periods import zone
from detections.rulebook.rule import Level, rank
from ledger.errors import UsageError
from ledger.settings.yaml_file import read_yaml

MAX_ROUTES: Final = 50
MailAddress = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}$")]
Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}:[0-9]{1,5}$")]
Clock = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Quiet(BaseModel):
    """Hours in which nothing below `except_level` is sent; what stands afterwards is sent then."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    begins: Clock
    ends: Clock
    tz: str = "UTC"
    except_level: Level = "critical"

    @model_validator(mode="after")
    def _zone(self) -> Self:
        try:
            zone(self.tz)
        except UsageError as error:
            raise ValueError(error.message) from None
        return self

    def holds(self, now: datetime, level: str) -> bool:
        """Whether an alert of this level waits at this time."""
        if rank(level) >= rank(self.except_level):
            return False
        here = now.astimezone(ZoneInfo(self.tz)).time()
        begins, ends = time.fromisoformat(self.begins), time.fromisoformat(self.ends)
        return begins <= here < ends if begins <= ends else here >= begins or here < ends


class Route(BaseModel):
    """One way out. `tenants` None: the operator's, which alone gets alerts of several or unknown tenants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    kind: Literal["webhook", "kafka", "mail", "hec", "syslog"]
    form: Literal["native", "ocsf", "slack", "pagerduty", "text"] = "native"
    level: Level = "low"
    tenants: list[str] | None = None
    quiet: Quiet | None = None
    url: Annotated[str, StringConstraints(pattern=r"^https?://", max_length=2_000)] | None = None
    secret_file: Path | None = None
    routing_key_file: Path | None = None
    bootstrap: str | None = None
    topic: str | None = None
    smtp: Address | None = None
    syslog: Address | None = None
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: Path | None = None
    mail_from: MailAddress | None = None
    mail_to: list[MailAddress] = Field(default=[], max_length=50)
    user: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "webhook" and (self.url is None or self.secret_file is None):
            raise ValueError("a webhook has a url and a secret_file")
        if self.kind == "kafka" and (self.bootstrap is None or self.topic is None):
            raise ValueError("a topic has bootstrap and topic")
        if self.kind == "mail" and (self.smtp is None or self.mail_from is None or not self.mail_to):
            raise ValueError("a mail has smtp, mail_from and mail_to")
        if (self.kind == "mail") != (self.form == "text"):
            raise ValueError("a mail has the form text, and nothing else has it")
        if self.kind == "hec" and (self.url is None or self.secret_file is None):
            raise ValueError("a collector has a url and a secret_file with its token")
        if self.kind == "hec" and "/services/collector" not in (self.url or ""):
            raise ValueError("a collector's url leads to /services/collector/event")
        if self.kind == "syslog" and self.syslog is None:
            raise ValueError("a syslog receiver has syslog, its host and port")
        if self.tls == "none" and not self._on_this_machine():
            raise ValueError("what leaves this machine has tls starttls or implicit")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file come together")
        if self.kind not in ("webhook", "mail") and self.form not in ("native", "ocsf"):
            raise ValueError(f"{self.kind} takes the forms native and ocsf")
        if (self.form == "pagerduty") != (self.routing_key_file is not None):
            raise ValueError("the form pagerduty has a routing_key_file, and no other form has one")
        return self

    def _on_this_machine(self) -> bool:
        addresses = [one for one in (self.smtp, self.syslog) if one is not None]
        return all(one.rpartition(":")[0] in ("localhost", "127.0.0.1") for one in addresses)

    def takes(self, tenant: str | None, level: str) -> bool:
        """Whether an alert of a tenant (None: several, or unknown) and level goes this way."""
        at_home = self.tenants is None or (tenant is not None and tenant in self.tenants)
        return at_home and rank(level) >= rank(self.level)


class _Routes(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    routes: list[Route] = Field(min_length=1, max_length=MAX_ROUTES)

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [one.name for one in self.routes]
        if len(set(names)) != len(names):
            raise ValueError("two routes have one name")
        return self


def read_routes(path: Path) -> list[Route]:
    """The routes of a YAML file. Raises UsageError with the line of what is wrong."""
    document = read_yaml(path)
    try:
        return _Routes.model_validate(document.value).routes
    except ValidationError as error:
        raise document.refusal(error, "docs/detections.md shows a file.", whole="routes") from None
