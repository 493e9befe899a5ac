from __future__ import annotations

from pathlib import Path

import pytest

from ingest.adapters import adapter
from ingest.intakes import read_intake
from ledger.errors import UsageError


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "intake.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    ['[intake.options]\ndrop = ["a"]', '[intake]\noptions = {drop = ["a"]}', '[options]\ndrop = ["a"]'],
)
def test_options_of_the_format_count_wherever_they_stand(tmp_path: Path, text: str) -> None:
    settings = read_intake(_written(tmp_path, text), "x")
    assert settings.options == {"drop": ["a"]}
    adapter("opa", settings.options)


@pytest.mark.parametrize("text", ["[intake.options]\nnosuch = 1", "[options]\nnosuch = 1"])
@pytest.mark.parametrize(("name", "allowed"), [("opa", "fields, paths, drop"), ("native", "nosuch")])
def test_an_unknown_option_of_the_format_is_refused(
    tmp_path: Path, text: str, name: str, allowed: str
) -> None:
    settings = read_intake(_written(tmp_path, text), "x")
    with pytest.raises(UsageError, match=allowed):
        adapter(name, settings.options)


def test_an_unknown_option_of_an_intake_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no option kind[.].*kinds.*sources"):
        read_intake(_written(tmp_path, '[intake]\nkind = ["decision"]'), "x")


def test_one_option_in_two_places_is_refused(tmp_path: Path) -> None:
    text = "[intake.options]\ndrop = []\n[options]\ndrop = []\n"
    with pytest.raises(UsageError, match="drop twice"):
        read_intake(_written(tmp_path, text), "x")
