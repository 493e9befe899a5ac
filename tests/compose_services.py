"""docker-compose.yml as the tests see it: what each service of ours runs.

End-to-end tests run these very commands as processes, with the container's places replaced:
`command_of("ingest", bootstrap="127.0.0.1:40001")` with `environment_of("ingest", volumes=tmp_path)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

COMPOSE_FILE = Path(__file__).resolve().parents[1] / "docker-compose.yml"
BROKER_IN_COMPOSE = "kafka:9092"
HOME_IN_COMPOSE = "/var/lib/decision-ledger"
OUR_IMAGE = "decision-ledger"


def compose() -> dict[str, Any]:
    """The parsed compose file, merge keys resolved."""
    parsed: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    return parsed


def our_services() -> dict[str, dict[str, Any]]:
    """The services that run this program, by name."""
    services: dict[str, dict[str, Any]] = compose()["services"]
    return {name: told for name, told in services.items() if told["image"].partition(":")[0] == OUR_IMAGE}


def command_of(service: str, *, bootstrap: str = BROKER_IN_COMPOSE) -> list[str]:
    """The arguments after `decision-ledger`; `bootstrap` takes the place of the broker in compose."""
    return [part.replace(BROKER_IN_COMPOSE, bootstrap) for part in our_services()[service]["command"]]


def environment_of(service: str, *, volumes: Path) -> dict[str, str]:
    """The service's environment, its volumes moved below the folder `volumes`."""
    told = our_services()[service]["environment"]
    return {name: value.replace(HOME_IN_COMPOSE, str(volumes)) for name, value in told.items()}
