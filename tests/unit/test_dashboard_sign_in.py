"""Who is let in by which claims, for how long; and the way of what people do to the intake."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from dashboard import people
from dashboard.access import Forbidden, Viewer
from dashboard.drafts import rule_draft
from dashboard.handing_over import MAX_BUFFERED, Intake, check_address, read_token
from dashboard.serving import address, free_port, options
from dashboard.sign_in import EndedSignIns, SignedOut, SignIn, fingerprint, read_sign_in, viewer_of
from ledger.errors import OutsideError, UsageError
from ledger.events import DASHBOARD_SOURCE

NOW = 1_800_000_000
SIGN_IN = SignIn(
    "http://localhost:1/oauth2callback", "roles", "tenants", {"sec": "analyst", "boss": "leader"}
)
CLAIMS: dict[str, Any] = {
    "iss": "https://idp.example", "sub": "ann", "iat": NOW - 60, "exp": NOW + 600,
    "roles": ["sec", "unknown"], "tenants": "acme",
}  # fmt: skip
FILE = """
[auth]
redirect_uri = "https://ledger.example/oauth2callback"
cookie_secret = "0123456789012345678901234567890123456789"
client_id = "dashboard"
client_secret = "s"
server_metadata_url = "https://idp.example/.well-known/openid-configuration"
[access]
roles_claim = "groups"
[access.roles]
security = "analyst"
"""


def test_claims_give_roles_and_tenants() -> None:
    who = viewer_of(CLAIMS, SIGN_IN, NOW)
    assert who.user == "https://idp.example#ann"
    assert (who.roles, who.tenants) == (frozenset({"analyst"}), frozenset({"acme"}))
    assert viewer_of({**CLAIMS, "tenants": ["*"]}, SIGN_IN, NOW).tenants is None
    assert viewer_of({**CLAIMS, "roles": "boss"}, SIGN_IN, NOW).roles == {"leader"}


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"exp": NOW}, SignedOut), ({"exp": None}, SignedOut), ({"exp": True}, SignedOut),
        ({"iat": NOW - 9 * 3600, "exp": NOW + 9_999}, SignedOut), ({"iat": NOW + 3_600}, SignedOut),
        ({"iat": "now"}, SignedOut), ({"sub": ""}, SignedOut), ({"iss": None}, SignedOut),
        ({"roles": []}, Forbidden), ({"roles": ["admin"]}, Forbidden), ({"roles": {"sec": 1}}, Forbidden),
        ({"tenants": None}, Forbidden), ({"tenants": []}, Forbidden), ({"tenants": [1, None]}, Forbidden),
    ],
)  # fmt: skip
def test_claims_that_say_too_little_let_nobody_in(more: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        viewer_of({**CLAIMS, **more}, SIGN_IN, NOW)


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "sign-in.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_a_sign_in(tmp_path: Path) -> None:
    found = read_sign_in(written(tmp_path, FILE))
    assert (found.roles_claim, found.tenants_claim, found.host) == ("groups", "tenants", "ledger.example")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[auth]", "[auth", "is not TOML"),
        ('client_id = "dashboard"', "", "no [auth] client_id"),
        ("0123456789012345678901234567890123456789", "short", "cookie_secret"),
        ("https://ledger.example", "http://ledger.example", "redirect_uri is no https"),
        ("/oauth2callback", "/back", "does not end in /oauth2callback"),
        ("https://idp.example", "http://idp.example", "server_metadata_url is no https"),
        ('security = "analyst"', 'security = "king"', "the role 'king'"),
        ('security = "analyst"', "", "grants no role"),
        ('roles_claim = "groups"', "roles_claim = 7", "no name"),
    ],
)
def test_a_file_that_would_let_the_wrong_people_in_is_refused(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    assert old in FILE
    with pytest.raises(UsageError) as refused:
        read_sign_in(written(tmp_path, FILE.replace(old, new)))
    assert said in str(refused.value)


def test_others_may_not_read_its_secrets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Others may read"):
        read_sign_in(written(tmp_path, FILE, 0o644))
    with pytest.raises(UsageError, match="cannot be read"):
        read_sign_in(tmp_path / "none")


def test_ended_sign_ins_are_known_to_all_workers(tmp_path: Path) -> None:
    one, other = (EndedSignIns(tmp_path / "d" / "ended") for _ in range(2))
    mark = fingerprint(CLAIMS)
    assert mark not in one
    one.add(mark)
    assert mark in other
    assert fingerprint({**CLAIMS, "iat": NOW}) not in other
    assert (tmp_path / "d" / "ended").stat().st_mode & 0o077 == 0


class Answering(httpx.BaseTransport):
    """An intake whose answers the test sets."""

    def __init__(self) -> None:
        self.status = 202
        self.taken: list[dict[str, Any]] = []
        self.heard = threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.status == 0:
            raise httpx.ConnectError("away")
        if self.status == 202:
            self.taken += [json.loads(line) for line in request.read().splitlines()]
            assert request.headers["authorization"] == "Bearer secret-token-of-many-letters"
        self.heard.set()
        return httpx.Response(self.status)


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
def intake(answering: Answering) -> Any:
    one = Intake("http://127.0.0.1:9", "secret-token-of-many-letters", answering)
    yield one
    one.close()


def test_what_was_done_is_handed_over_or_refused(intake: Intake, answering: Answering) -> None:
    event = people.case_step("c1", "opened", "u", people.new_id(), title="T")
    intake.hand_over([event])
    assert intake.saved(event["event_id"])
    for status in (0, 401, 429, 500):
        answering.status = status
        with pytest.raises(OutsideError, match="cannot be saved"):
            intake.hand_over([people.case_step("c2", "opened", "u", people.new_id(), title="T")])
    assert [one["target"] for one in answering.taken] == ["case:c1"]


def test_views_wait_for_the_intake_and_are_bounded(intake: Intake, answering: Answering) -> None:
    answering.status = 0
    for number in range(MAX_BUFFERED):
        intake.looked({"event_id": str(number)})
    with pytest.raises(OutsideError, match="cannot be recorded"):
        intake.looked({"event_id": "more"})
    answering.status = 202
    intake.close()
    assert [one["event_id"] for one in answering.taken] == [str(number) for number in range(MAX_BUFFERED)]


def test_tokens_and_addresses(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("# ours\n\nabc\n")
    assert read_token(file) == "abc"
    file.write_text("# nothing\n")
    for path in (file, tmp_path / "none"):
        with pytest.raises(UsageError):
            read_token(path)
    for good in ("https://intake.example", "http://127.0.0.1:1", "http://localhost:1"):
        check_address(good)
    for bad in ("http://intake.example", "ftp://x", "intake", "https://"):
        with pytest.raises(UsageError):
            check_address(bad)
    assert address("[::1]:80") == ("::1", 80)
    for bad in ("x", ":1", "a:b", "a:70000"):
        with pytest.raises(UsageError):
            address(bad)
    assert free_port("127.0.0.1", 0) > 0


def test_what_streamlit_is_told() -> None:
    told = options("127.0.0.1", 8501)
    assert told["client.showErrorDetails"] == "none"
    assert told["client.disableDataExport"] is True
    assert told["browser.gatherUsageStats"] is False
    assert told["server.allowedHosts"] == ["127.0.0.1", "localhost"]
    assert "ledger.example" in options("10.0.0.1", 80, "ledger.example")["server.allowedHosts"]
    assert told["theme.dark.primaryColor"].startswith("#")


ALERT = {
    "alert_id": "a" * 32, "rule_id": "r", "alert_key": '["x"]', "severity": "high", "tenant": None,
    "window_start": datetime(2026, 11, 23, tzinfo=UTC), "owner": "user:o", "last_event": "e0",
}  # fmt: skip


def test_events_of_people() -> None:
    step = people.triage(ALERT, "resolve", "i#ann", "b" * 32, verdict="true-positive", comment=" x ")
    assert (step["source"], step["event_id"]) == (DASHBOARD_SOURCE, f"{'a' * 32}/t/{'b' * 32}")
    assert (step["outcome"], step["verdict_id"], step["owner"], step["comment"]) == (
        "resolved",
        2,
        "user:o",
        "x",
    )
    assert step["attributes"] == {"based_on": "e0"}
    assert "tenant" not in step
    for wrong in ({"step": "shred"}, {"verdict": "maybe"}, {"comment": "x" * 10_001}):
        with pytest.raises(UsageError):
            people.triage(ALERT, wrong.pop("step", "resolve"), "u", "n", **wrong)
    with pytest.raises(UsageError, match="needs its reason"):
        people.review("grant:g", "kept", "u", "n", campaign="2026-11", tenant=None, comment=" ")
    with pytest.raises(UsageError, match="no outcome"):
        people.review("grant:g", "burnt", "u", "n", campaign="2026-11", tenant=None, comment="x")
    query = people.saved_query("q", "T", "SELECT 1", "u", "n", tenants=["acme"])
    assert (query["tenant"], query["attributes"]["sql"]) == ("acme", "SELECT 1")
    who = Viewer("u", frozenset(), frozenset({"acme"}))
    seen = people.access(who, "view", "sql", 7, {"statement": "x" * 999, "tenant": "beta"})
    assert seen["tenant"] == "acme"
    assert len(seen["attributes"]["statement"]) == people.MAX_TITLE
    assert people.again(seen)["event_id"] != seen["event_id"]


def test_a_draft_of_a_rule_holds_the_query_as_it_is() -> None:
    import yaml

    draft = yaml.safe_load(rule_draft("saved-query", "SELECT ': #' AS x\nFROM events"))
    assert draft["query"].endswith("SELECT ': #' AS x\nFROM events\n")
    assert draft["state"] == "staging"
    assert len(draft["tests"]) == 2
