"""Every query in the exercises finds what its page says, in the ledger of its scenario."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest.adapters import adapter
from ingest.intakes import read_intake
from ingest.pipeline import Pipeline
from ingest.sources.files.source import FileSource
from issuer.scenarios.catalogue import Played, play, write
from ledger.reader import Ledger
from tests.making import make_ledger

PAGES = Path(__file__).parents[2] / "docs/exercises"
SCENARIOS = ("credential-theft", "delegated-abuse", "revocation-drill", "rollback-drill")


def queries(name: str) -> list[str]:
    page = (PAGES / f"{name}.md").read_text("utf-8")
    return [textwrap.dedent(one) for one in re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)]


@pytest.fixture(scope="module", params=SCENARIOS)
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Played, list[list[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("exercise")
    made = play(request.param, 7, rate=6)
    write(made, folder / "events.jsonl")
    ledger = make_ledger(folder / "ledger")
    source = FileSource([str(folder / "events.jsonl")], lambda _: None)
    intake = read_intake(None, "exercise").intake
    totals = Pipeline(source, adapter("native"), ledger.writer(), intake=intake).run()
    assert totals.events == len(made.events)
    with Ledger.open(str(ledger.folder)) as opened:
        answers = [opened.sql(query).to_pylist() for query in queries(request.param)]
    return request.param, made, answers


def test_the_queries_find_what_was_planted(played: tuple[str, Played, list[list[dict[str, Any]]]]) -> None:
    name, made, answers = played
    (incident,) = made.truth["incidents"]
    planted = [event for event in made.events if event["event_id"] in set(incident["event_ids"])]
    if name == "credential-theft":
        (found,) = answers[0]
        assert found["credential_id"] in {event.get("credential_id") for event in planted}
        assert found["addresses"] == 2
        assert [row["decision"] for row in answers[1]] == ["allow", "deny"]
    elif name == "delegated-abuse":
        assert answers[0][0]["delegated_actor"] in incident["principals"]
        assert [row["source"] for row in answers[1]] == ["legacy-gateway"]
        assert answers[2][0]["to_agent"] in incident["principals"]
    elif name == "revocation-drill":
        assert {row["pep"] for row in answers[0]} == {"tool_router", "data_adapter"}
        assert all(0 < row["seconds"] < 5 for row in answers[0])
    else:
        assert [row["policy_version"] for row in answers[0]] == ["1", "2", "1"]
        assert [row["policy_version"] for row in answers[1]][-1] == "1"
        assert {row["policy_version"] for row in answers[1] if row["decision"] == "deny"} == {"2"}
    assert orjson.dumps(answers, default=str)


def test_the_index_names_every_page() -> None:
    index = (PAGES / "README.md").read_text("utf-8")
    for path in PAGES.glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index
    assert all(queries(name) for name in SCENARIOS)
