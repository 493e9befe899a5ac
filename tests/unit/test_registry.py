"""What people register: identities, tools, destinations, keys, and the gate over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import decision_ledger
from issuer.example.founding import key_path, write_example
from issuer.registry.destinations import Destination
from issuer.registry.identities import KINDS, Workload, environment_of, spiffe_id, workload_id
from issuer.registry.private_keys import read_private_key
from issuer.registry.registry import FILES, RULES, judge, read_registry, section_of
from issuer.registry.tools import greatest
from issuer.registry.trust import read_trust, trust_document
from issuer.tokens.keys import make_key, thumbprint
from ledger.console import run
from ledger.errors import UsageError
from ledger.settings.yaml_file import parse_yaml

EXAMPLE = Path(__file__).parents[2] / "issuer/example"


def faults(section: str, record: dict[str, Any]) -> list[str]:
    document = parse_yaml(json.dumps({section: [record]}).encode(), "x.yml")
    return [fault.rule for fault in judge(document, section)[1]]


def example(section: str) -> dict[str, Any]:
    name = next(name for name, (found, _, _) in FILES.items() if found == section)
    record: dict[str, Any] = parse_yaml((EXAMPLE / name).read_bytes(), name).value[section][0]
    return record


@pytest.mark.parametrize("section", [section for section, _, _ in FILES.values()])
def test_the_example_passes_its_own_gate(section: str) -> None:
    assert faults(section, example(section)) == []


@pytest.mark.parametrize("field", sorted(Workload.model_fields))
def test_an_agent_needs_all_of_its_metadata(field: str) -> None:
    record = example("agents")
    del record[field]
    assert faults("agents", record) == ["missing"]
    assert faults("agents", {**example("agents"), field: None}) == ["invalid"]


@pytest.mark.parametrize("field", ["endpoint", "owner", "system", "purpose", "environment", "actions"])
def test_a_tool_needs_all_of_its_metadata(field: str) -> None:
    record = example("tools")
    del record[field]
    assert faults("tools", record) == ["missing"]


@pytest.mark.parametrize(
    ("section", "change", "rule"),
    [
        ("agents", {"environment": "staging"}, "environment"),
        ("agents", {"credential_type": "static"}, "invalid"),
        ("agents", {"id": "robot:production/x"}, "invalid"),
        ("agents", {"id": "agent:production/../x"}, "invalid"),
        ("agents", {"id": "agent:production/X"}, "invalid"),
        ("agents", {"owner": "carol"}, "invalid"),
        ("agents", {"purposes": []}, "invalid"),
        ("agents", {"scopes": ["ticket"]}, "invalid"),
        ("agents", {"key": "s3cret"}, "unknown"),
        ("tools", {"environment": "staging"}, "environment"),
        ("tools", {"endpoint": "https://x"}, "invalid"),
        ("tools", {"pep": "none"}, "invalid"),
        ("tools", {"actions": [example("tools")["actions"][0]] * 2}, "twice"),
        ("destinations", {"base_url": "ftp://x"}, "invalid"),
        ("destinations", {"base_url": "https://u:p@x"}, "invalid"),
        ("destinations", {"base_url": "https://x?y"}, "invalid"),
        ("destinations", {"base_url": "https://x:99999"}, "invalid"),
        ("destinations", {"routes": [{"methods": ["CONNECT"], "path": "/"}]}, "invalid"),
        ("destinations", {"routes": [{"methods": ["GET"], "path": "/../x"}]}, "invalid"),
        ("destinations", {"routes": [{"methods": ["GET"], "path": "/a*"}]}, "invalid"),
        ("destinations", {"credential": {"env": "A", "file": "b"}}, "invalid"),
        ("destinations", {"credential": {}}, "invalid"),
        ("destinations", {"test_address": "10.0.0.1:80"}, "invalid"),
        ("users", {"roles": ["admin"]}, "invalid"),
        ("users", {"risk": 101}, "invalid"),
        ("users", {"id": "user:../x"}, "invalid"),
        ("resources", {"data_class": "secret"}, "invalid"),
        ("grants", {"approver": example("grants")["delegate"]}, "approval"),
        ("grants", {"covers": ["tenant:*"]}, "invalid"),
        ("grants", {"covers": ["env:staging"]}, "invalid"),
    ],
)
def test_each_rule_finds_what_it_is_for(section: str, change: dict[str, Any], rule: str) -> None:
    assert rule in faults(section, {**example(section), **change})
    assert rule in RULES


def test_the_gate_speaks_for_agents_and_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agents.yml"
    file.write_bytes((EXAMPLE / "agents.yml").read_bytes().replace(b"    owner: user:carol\n", b"", 1))
    assert run(decision_ledger.app, ["identities", "check", str(file)]) == 1
    line = capsys.readouterr().out
    assert line == f"{file}:4: agent:production/support-triage: owner is missing\n"
    assert run(decision_ledger.app, ["identities", "check", str(EXAMPLE / "tools.yml")]) == 0
    file.write_text("nothing: []")
    assert run(decision_ledger.app, ["identities", "check", str(file)]) == 2
    with pytest.raises(UsageError):
        section_of(parse_yaml(b"[]", "x"))


@given(st.sampled_from(KINDS), st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True))
def test_an_identity_has_two_spellings_one_to_one(kind: str, name: str) -> None:
    identity = f"{kind}:production/{name}"
    assert workload_id(spiffe_id(identity)) == identity == workload_id(identity)
    assert environment_of(identity) == "production"


@given(st.text())
def test_no_other_text_is_an_identity(text: str) -> None:
    found = workload_id(text)
    assert found is None or text in (found, spiffe_id(found))


def test_the_company_is_read_as_a_whole(company: Path) -> None:
    registry = read_registry(company)
    trust = read_trust(company / "trust")
    assert {len(trust.thumbprints(name)) for name in (*registry.workloads, *registry.users)} == {1}
    for owner in ("agent:production/support-triage", "user:dan"):
        key = read_private_key(key_path(company, owner))
        assert trust.key_of(owner, thumbprint(key)) is not None
        assert trust.key_of("agent:staging/release-manager", thumbprint(key)) is None
    users = (company / "users.yml").read_text()
    passwords = json.loads((company / "passwords.json").read_text())
    assert not any(password in users for password in passwords.values())
    assert {path.stat().st_mode & 0o077 for path in company.rglob("*.jwk")} == {0}
    assert registry.destination_of("egress:production/mail") is registry.destinations["mail"]
    assert greatest(action.impact for action in registry.tools["tool:production/payments"].actions) == "high"


def test_one_key_in_two_places_refuses_all(company: Path, tmp_path: Path) -> None:
    shared = make_key()
    for environment, owner in (("production", "agent"), ("staging", "agent")):
        text = json.dumps(trust_document({f"spiffe://{environment}/{owner}/x": shared}))
        (tmp_path / f"{environment}.json").write_text(text)
    with pytest.raises(UsageError, match="shared identity"):
        read_trust(tmp_path)
    (tmp_path / "staging.json").unlink()
    two = [*trust_document({"spiffe://production/agent/x": shared})["keys"]]
    two += trust_document({"spiffe://production/agent/y": shared})["keys"]
    (tmp_path / "production.json").write_text(json.dumps({"keys": two}))
    with pytest.raises(UsageError, match="shared identity"):
        read_trust(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"keys":1}', '{"keys":[{}]}', '{"keys":[{"sub":"agent:staging/x"}]}',
     '{"keys":[{"sub":"agent:production/x","kty":"RSA"}]}', '{"keys":[{"sub":"user:dan"}]}', "[" * 9999],
)  # fmt: skip
def test_a_trust_bundle_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        read_trust(tmp_path)
    (tmp_path / "production.json").write_text(text)
    with pytest.raises(UsageError):
        read_trust(tmp_path)


def test_a_private_key_is_private(company: Path, tmp_path: Path) -> None:
    path = tmp_path / "k.jwk"
    path.write_text("{}")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod"):
        read_private_key(path)
    path.chmod(0o600)
    for text in ("{}", "[]", "x", json.dumps(trust_document({"a": make_key()})["keys"][0])):
        path.write_text(text)
        with pytest.raises(UsageError):
            read_private_key(path)
    with pytest.raises(UsageError, match="no private key"):
        read_private_key(tmp_path / "none")


def test_a_registry_with_a_fault_does_not_start(company: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    write_example(folder, now=0)
    with pytest.raises(UsageError, match="not empty"):
        write_example(folder, now=0)
    path = folder / "tools.yml"
    path.write_text(path.read_text().replace("    system: support\n", "", 1))
    with pytest.raises(UsageError, match=r"tools.yml:3: .*system is missing"):
        read_registry(folder)
    path.unlink()
    with pytest.raises(UsageError, match="no file"):
        read_registry(folder)


def test_a_route_covers_its_path_and_what_lies_below_a_star() -> None:
    bank = Destination.model_validate(
        parse_yaml((EXAMPLE / "destinations.yml").read_bytes(), "d").value["destinations"][1]
    )
    assert bank.opens("POST", "/transfers")
    assert bank.opens("GET", "/transfers/1")
    assert not bank.opens("GET", "/transfers")
    assert not bank.opens("POST", "/transfers/1")
    assert not bank.opens("DELETE", "/transfers/1")
