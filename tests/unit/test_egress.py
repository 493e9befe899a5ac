"""The way out: to public addresses, by names; nothing leaves that should stay, nothing comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from issuer.authentication.refusal import Refusal
from issuer.egress import service as egress
from issuer.egress.addresses import NotOutside, is_public, outside_address
from issuer.egress.shaping import echoes, headers_out, safe_path, shaped
from issuer.registry.destinations import Destination
from issuer.serving import Settings
from issuer.state.signing_keys import BROKER
from issuer.tokens.jws import ACCESS, sign
from tests.issuing import REPLY, URLS, Answer, Company
from tests.unit.test_broker import claims_of

SECRET = "s3cr3t-of-the-mail-service"
MAIL = "egress:production/mail"


class Seen(BaseHTTPRequestHandler):
    """A destination that remembers what it was sent."""

    requests: list[dict[str, Any]]
    answer: tuple[int, dict[str, str], bytes] = (200, {}, b'{"ok":true}')
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        kept = {name.lower(): value for name, value in self.headers.items()}
        self.requests.append({"path": self.path, "headers": kept, "body": body})
        status, headers, content = self.answer
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def seen() -> Iterator[tuple[type[Seen], int]]:
    handler = type("Handler", (Seen,), {"requests": [], "answer": Seen.answer})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield handler, server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def with_destination(company: Path, tmp_path: Path, **change: Any) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    for path in company.iterdir():
        if path.name != "destinations.yml" and not path.name.startswith("state.db"):
            (folder / path.name).symlink_to(path)
    from ledger.settings.yaml_file import read_yaml

    document = read_yaml(company / "destinations.yml").value
    document["destinations"][0].update(change)
    (folder / "destinations.yml").write_text(json.dumps(document))
    return folder


@pytest.fixture
def firm(
    company: Path, tmp_path: Path, seen: tuple[type[Seen], int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Company]:
    monkeypatch.setenv("MAIL_TOKEN", SECRET)
    folder = with_destination(company, tmp_path, test_address=f"127.0.0.1:{seen[1]}")
    firm = Company.of(folder, allow_test=True)
    firm.hear()
    yield firm
    firm.close()


def sent(
    firm: Company, body: Any = None, path: str = "/v1/messages", method: str = "POST", **more: Any
) -> Answer:
    session = firm.session(agents=[REPLY], requested_actions=["ticket:read", "ticket:notify"])
    token = firm.credential(REPLY, session["session"], audience=MAIL)
    url = f"/to/mail{path}"
    headers = {
        "Authorization": f"DPoP {token}",
        **firm.proof(REPLY, method, URLS["egress"] + url.partition("?")[0], token),
        **more.pop("headers", {}),
    }
    content = more or {"json": {"text": "hello"} if body is None else body}
    return firm.call("egress", method, url, headers=headers, **content)


def test_a_call_goes_out_with_a_credential_that_the_agent_never_sees(
    firm: Company, seen: tuple[type[Seen], int]
) -> None:
    seen[0].answer = (
        201,
        {"Set-Cookie": "a=b", "Location": "http://127.0.0.1/", "Content-Type": "application/json"},
        b"{}",
    )  # fmt: skip
    body = {"text": "hello", "internal_note": "x", "list": [{"Internal_Note": 1, "keep": 2}]}
    headers = {"Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "Accept": "application/json"}
    answer, events = firm.since(lambda: sent(firm, body, headers=headers))
    assert answer.status == 201
    assert "set-cookie" not in answer.headers
    assert "location" not in answer.headers
    (request,) = seen[0].requests
    assert request["path"] == "/v1/messages"
    assert json.loads(request["body"]) == {"text": "hello", "list": [{"keep": 2}]}
    got = request["headers"]
    assert got["authorization"] == f"Bearer {SECRET}"
    assert got["host"] == "mail.example.com"
    assert (got["x-acting-for"], got["x-acting-agent"], got["x-policy-version"]) == ("user:alice", REPLY, "1")
    assert not {"cookie", "dpop", "x-forwarded-for"} & set(got)
    decision, action = [event for event in events if event.get("destination") == "mail"]
    assert (decision["kind"], decision["pep"], decision["decision"]) == ("decision", "egress", "allow")
    assert decision["sensitive_fields"] == ["internal_note"]
    assert decision["attributes"]["test_destination"].startswith("127.0.0.1:")
    assert decision["attributes"]["purpose"] == "support"
    assert action["bytes_out"] == len(request["body"])
    assert action["attributes"]["test_destination"] is True
    assert SECRET not in json.dumps(firm.events()) + json.dumps(answer.body) + str(answer.headers)


@pytest.mark.parametrize(
    ("more", "status", "reason"),
    [
        ({"body": {"deep": [{"IBAN": "DE00"}]}}, 403, "sensitive_field"),
        ({"body": {"card_number": 1}}, 403, "sensitive_field"),
        ({"path": "/v1/messages?iban=DE00"}, 403, "sensitive_field"),
        ({"path": "/v1/messages?internal_note=x"}, 403, "sensitive_field"),
        ({"content": b"iban=DE00", "headers": {"content-type": "text/plain"}}, 415, "body_unreadable"),
        (
            {"content": b'{"a":1,"a":2}', "headers": {"content-type": "application/json"}},
            400,
            "body_malformed",
        ),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "body_malformed"),
        ({"content": b"x" * 65_537}, 413, "body_too_large"),
        ({"path": "/v1/other"}, 403, "route_closed"),
        ({"path": "/v1/messages/more"}, 403, "route_closed"),
        ({"method": "DELETE"}, 403, "route_closed"),
        ({"method": "CONNECT"}, 400, "upgrade_refused"),
        ({"method": "TRACE"}, 400, "upgrade_refused"),
        ({"headers": {"Upgrade": "websocket"}}, 400, "upgrade_refused"),
        ({"path": "/v1/%2e%2e/messages"}, 400, "path_malformed"),
        ({"path": "/v1%2fmessages"}, 400, "path_malformed"),
        ({"path": "/v1\\messages"}, 400, "path_malformed"),
        ({"path": "//v1/messages"}, 400, "path_malformed"),
        ({"path": "/v1/messages%00"}, 400, "path_malformed"),
    ],
)
def test_what_may_not_leave_is_refused(
    firm: Company, seen: tuple[type[Seen], int], more: dict[str, Any], status: int, reason: str
) -> None:
    before = len(firm.events())
    answer = sent(firm, **more)
    told = [event for event in firm.events()[before:] if event.get("pep") == "egress"]
    assert answer.status == status, answer
    assert [(event["kind"], event["decision"], event["reason"]) for event in told] == [
        ("decision", "deny", reason)
    ]
    assert seen[0].requests == []


def test_other_places_are_no_destinations(firm: Company) -> None:
    for name in ("127.0.0.1", "169.254.169.254", "[::1]", "localhost", "2130706433", "none", "bank"):
        answer = firm.call("egress", "POST", f"/to/{name}/v1/messages", json={})
        assert answer.status in (401, 403, 404), name
    for path in ("/", "/v1/messages", "/to/mail", "/http://127.0.0.1/"):
        answer, events = firm.since(lambda path=path: firm.call("egress", "POST", path, json={}))  # type: ignore[misc]  # a default argument
        assert answer.status == 404
        assert [event["reason"] for event in events] == ["path_unknown"]


def test_a_capability_of_another_endpoint_is_none_here(firm: Company) -> None:
    session = firm.session(agents=[REPLY], requested_actions=["ticket:notify", "ticket:read"])
    token = firm.credential(REPLY, session["session"], audience="tool:production/tickets")
    url = "/to/mail/v1/messages"
    headers = {"Authorization": f"DPoP {token}", **firm.proof(REPLY, "POST", URLS["egress"] + url, token)}
    answer = firm.call("egress", "POST", url, json={"text": "x"}, headers=headers)
    assert (answer.status, answer.error) == (401, "invalid_token")


def test_what_comes_back_is_bounded_and_without_the_credential(
    firm: Company, seen: tuple[type[Seen], int]
) -> None:
    for content, status in (
        (f'{{"you sent":"{SECRET}"}}'.encode(), 502),
        (b"x" * 1_048_577, 502),
        (b"x" * 1_000_000, 200),
    ):
        seen[0].answer = (200, {"content-type": "text/plain"}, content)
        answer = sent(firm)
        assert answer.status == status
        assert SECRET not in str(answer.body)
    seen[0].answer = (302, {"Location": "http://169.254.169.254/"}, b"")
    answer = sent(firm)
    assert (answer.status, answer.headers.get("location")) == (302, None)
    assert len(seen[0].requests) == 4
    seen[0].answer = (200, {"etag": SECRET}, b"")
    assert "etag" not in sent(firm).headers


def test_without_its_credential_or_its_host_nothing_goes(
    firm: Company, monkeypatch: pytest.MonkeyPatch, seen: tuple[type[Seen], int]
) -> None:
    monkeypatch.delenv("MAIL_TOKEN")
    answer, events = firm.since(lambda: sent(firm))
    assert answer.status == 503
    assert events[-1]["reason"] == "credential_missing"
    assert (events[-1]["kind"], events[-1]["outcome"]) == ("action", "failed")
    assert seen[0].requests == []


NOT_PUBLIC = [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:7f00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::", "::7f00:1", "::127.0.0.1", "2001:db8::1", "fe80::1%eth0", "x", "", "2130706433",
    "0x7f000001", "127.1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_outside_is_never_connected_to(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1"])
def test_an_address_outside_is(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_whatever_hides_an_address_is_judged_by_it(address: Any) -> None:
    number = int(address)
    hidden = [
        f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
    ]  # fmt: skip
    if not is_public(str(address)):
        assert not any(is_public(one) for one in hidden)


def test_all_addresses_of_a_name_must_be_outside_and_it_is_asked_once() -> None:
    asked: list[str] = []

    def answering(*answers: list[str]) -> Any:
        rest = list(answers)

        async def resolver(host: str, _: int) -> list[str]:
            asked.append(host)
            return rest.pop(0)

        return resolver

    assert asyncio.run(outside_address("a", 443, answering(["8.8.8.8", "8.8.4.4"]))) == "8.8.8.8"
    for answer in (["8.8.8.8", "127.0.0.1"], ["::1"], [], ["8.8.8.8"] * 65):
        with pytest.raises(NotOutside):
            asyncio.run(outside_address("a", 443, answering(answer)))
    assert len(asked) == 5


def test_a_name_that_leads_inside_is_refused_and_a_rebinding_one_is_of_no_use(
    company: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_TOKEN", SECRET)
    answers = [["169.254.169.254"], ["127.0.0.1"], ["8.8.8.8"]]
    connected: list[tuple[str, dict[str, str]]] = []

    async def resolver(host: str, port: int) -> list[str]:
        assert (host, port) == ("mail.example.com", 443)
        return answers.pop(0)

    async def exchange(_: Destination, method: str, url: str, headers: dict[str, str], body: bytes) -> Any:
        connected.append((url, headers))
        return 200, b"{}", {}

    monkeypatch.setattr(egress, "_exchange", exchange)
    firm = Company.of(company, resolver=resolver)
    firm.hear()
    for _ in range(2):
        answer = sent(firm)
        assert answer.status == 403
        assert firm.events("action")[-1]["reason"] == "address_not_public"
    assert connected == []
    assert sent(firm).status == 200
    ((url, headers),) = connected
    # Connected to the address that was checked; the name is only in Host (and in SNI).
    assert url == "https://8.8.8.8:443/v1/messages"
    assert headers["host"] == "mail.example.com"
    assert answers == []
    firm.close()


def test_test_addresses_count_only_when_they_are_allowed(company: Path, tmp_path: Path) -> None:
    folder = with_destination(company, tmp_path, test_address="127.0.0.1:1")
    asked: list[str] = []

    async def resolver(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    firm = Company.of(folder, resolver=resolver)
    firm.hear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAIL_TOKEN", SECRET)
        assert sent(firm).status == 403
    assert asked == ["mail.example.com"]
    assert dataclasses.replace(Settings(folder, "production")).allow_test_destinations is False
    firm.close()


def test_the_router_sends_a_notice_through_the_mediator_as_a_child_of_the_callers_token(
    firm: Company, seen: tuple[type[Seen], int]
) -> None:
    session = firm.session(agents=[REPLY], requested_actions=["ticket:read", "ticket:notify"])
    token = firm.credential(
        REPLY, session["session"], audience="tool:production/tickets", scope="ticket:notify"
    )
    answer = firm.tool("router", REPLY, token, "ticket:notify", "ticket:4711", text="done")
    assert answer.status == 200, answer
    assert seen[0].requests[0]["headers"]["x-acting-agent"] == "router:production/main"
    assert seen[0].requests[0]["headers"]["traceparent"].split("-")[1] == session["txn"]
    child = firm.events("issuance")[-1]
    assert child["delegation"] == ["user:alice", REPLY, "router:production/main"]
    assert child["parent_credential_id"] == claims_of(firm, token)["jti"]
    actions = firm.events("action")
    assert [(event["pep"], event["destination"]) for event in actions] == [
        ("egress", "mail"),
        ("tool_router", "mail"),
    ]
    assert {event["trace_id"] for event in firm.events() if event["kind"] in ("decision", "action")} == {
        session["txn"]
    }
    firm.tool("router", REPLY, token, "ticket:notify", "ticket:4711", text=7)
    assert firm.events("action")[-1]["reason"] == "arguments_malformed"


def test_headers_and_paths_are_lists_of_what_passes() -> None:
    assert headers_out([("Accept", "x"), ("Authorization", "x"), ("X-Real-IP", "x")]) == {"accept": "x"}
    assert safe_path(b"/to/mail/v1/messages", "/to/mail") == "/v1/messages"
    for path in (b"/to/mail/../x", b"/to/mail/./x", b"/to/mail/a;b", b"/to/mail/\xff", b"/to/mail/a b"):
        with pytest.raises(Refusal):
            safe_path(path, "/to/mail")
    assert echoes(b"a c2VjcmV0 b", "secret")
    assert not echoes(b"a", None)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["iban", "IBAN", "internal_note", "x"]), inner), max_leaves=12))  # fmt: skip
@example(value={"internal_note": [{"iban": None}]})
def test_no_depth_hides_a_field(value: Any) -> None:
    mail = Destination.model_validate(
        {"name": "m", "base_url": "https://m", "environment": "p", "owner": "user:x", "purpose": "p",
         "routes": [{"methods": ["POST"], "path": "/"}], "required_scopes": ["a:b"],
         "drop_fields": ["internal_note"], "refuse_fields": ["iban"]}
    )  # fmt: skip
    text = json.dumps(value)
    if any(f'"{name}":' in text for name in ("iban", "IBAN")):
        with pytest.raises(Refusal, match="may not leave"):
            shaped(mail, text.encode(), "application/json", "")
        return
    body = shaped(mail, text.encode(), "application/json", "").body
    names = {name for name in ("iban", "internal_note") if f'"{name}":' in body.decode().lower()}
    assert names == set()


def test_a_token_of_another_environment_does_not_go_out(firm: Company, seen: tuple[type[Seen], int]) -> None:
    session = firm.session(agents=[REPLY], requested_actions=["ticket:notify"])
    token = firm.credential(REPLY, session["session"], audience=MAIL)
    signer = firm.deployment.keys[BROKER].current()
    other = sign({**claims_of(firm, token), "env": "staging"}, ACCESS, signer)
    url = "/to/mail/v1/messages"
    headers = {"Authorization": f"DPoP {other}", **firm.proof(REPLY, "POST", URLS["egress"] + url, other)}
    answer = firm.call("egress", "POST", url, json={"text": "x"}, headers=headers)
    assert (answer.status, answer.error) == (401, "invalid_token")
    assert firm.events("decision")[-1]["reason"] == "environment_mismatch"
    assert seen[0].requests == []
