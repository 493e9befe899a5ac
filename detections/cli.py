"""Commands of detections: detect …, alerts …, metrics, export ocsf."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

import ledger.config_cli
from detections.alerts_cli import alerts_app
from detections.defaults import CONFIGS
from detections.detect_cli import detect_app
from detections.export_cli import export_app
from detections.metrics_cli import metrics

if TYPE_CHECKING:
    from ledger.writer import Writer


def register(program: typer.Typer) -> None:
    """Mount these commands on the program, and what `config load` seals for them."""
    program.add_typer(detect_app, name="detect")
    program.add_typer(alerts_app, name="alerts")
    program.command("metrics")(metrics)
    program.add_typer(export_app, name="export")
    for name in CONFIGS:
        ledger.config_cli.KINDS[name] = _kind(name)


def _kind(name: str) -> ledger.config_cli.ConfigKind:
    def read(path: Path) -> bytes:
        from detections.config_files import read_config

        return read_config(name, path)

    def changes(writer: Writer, data: bytes) -> bool:
        from detections.config_files import check_history

        if name == "rules":
            check_history(data, writer)
        return True

    return ledger.config_cli.ConfigKind(read, changes)
