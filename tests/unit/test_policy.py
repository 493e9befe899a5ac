"""Policy bundles: read strictly, tested before use, reviewed by another, never more lenient than they say."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import decision_ledger
from issuer.policy.bundle import Bundle, bundle_of, digest_of, policy_texts, read_bundle
from issuer.policy.engine import Engine
from issuer.policy.question import Question, SessionFacts
from issuer.policy.review import TYP, find_review, make_review
from issuer.policy.review_files import reviews_of
from issuer.policy.scenario_tests import run_scenarios
from issuer.registry.identities import Workload
from issuer.registry.people import Resource, User
from issuer.registry.tools import Action
from issuer.tokens.jws import sign
from issuer.tokens.keys import make_key
from ledger.console import run
from ledger.errors import UsageError

EXAMPLE = Path(__file__).parents[2] / "issuer/example/policies/agents-1"
ANN = User(id="user:ann", tenant="t1", roles=["member"], data_classes=["internal"], risk=1)
HELPER = Workload(
    id="agent:production/helper", owner="user:o", system="s", purposes=["support"], environment="production",
    credential_type="private_key_jwt", scopes=["ticket:read"],
)  # fmt: skip
TICKET = Resource(id="ticket:1", tenant="t1", environment="production", data_class="internal")
READ = Action(
    name="ticket:read",
    impact="low",
    action_type="read",
    required_scopes=["ticket:read"],
    data_class="internal",
)
SESSION = SessionFacts("s1", "user:ann", "t1", "production", "internal", "support", 1, ("internal",))
ALL = b"permit(principal, action, resource);"
ASKED = Question(SESSION, READ, TICKET, ANN, HELPER.id)


def changed(change: Callable[[dict[str, bytes]], object]) -> Bundle:
    files = dict(read_bundle(EXAMPLE).files)
    change(files)
    return bundle_of(files, "x")


def engine(bundle: Bundle) -> Engine:
    return Engine(
        bundle, users=[ANN], workloads=[HELPER], resources=[TICKET], endpoints={"tool:p/x": "production"}
    )


def with_policy(text: str) -> Bundle:
    return changed(lambda files: files.update({"more.cedar": text.encode()}))


def test_the_example_passes_its_scenarios() -> None:
    bundle = read_bundle(EXAMPLE)
    outcomes = run_scenarios(bundle)
    assert len(outcomes) > 15
    assert [one for one in outcomes if not one.ok] == []
    verdict = engine(bundle).decide(ASKED)
    assert (verdict.decision, verdict.policy_id, verdict.version) == ("allow", "agent-within-scopes", "1")
    assert verdict.digest == bundle.digest == digest_of(bundle.files)


def test_the_digest_is_over_paths_and_contents() -> None:
    files = {"b": b"2", "a": b"1"}
    assert digest_of(files) == digest_of(dict(reversed(files.items())))
    assert len({digest_of(files), digest_of({"a": b"2", "b": b"1"}), digest_of({"a": b"1"})}) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.pop("bundle.yml"), "bundle.yml"),
        (lambda f: f.update({"bundle.yml": b"name: x"}), "version"),
        (lambda f: f.update({"bundle.yml": f["bundle.yml"] + b"digest: x\n"}), "digest"),
        (lambda f: f.pop("schema.cedarschema"), "0 schemas"),
        (lambda f: f.update({"b.cedarschema": b""}), "2 schemas"),
        (lambda f: f.update({"schema.cedarschema": b"entity"}), "no schema"),
        (lambda f: [f.pop(name) for name in list(f) if name.endswith(".cedar")], "no policies"),
        (lambda f: f.update({"more.cedar": ALL}), "without an @id"),
        (lambda f: f.update({"more.cedar": b'@id("") ' + ALL}), "without an @id"),
        (lambda f: f.update({"more.cedar": b'@id("risk") ' + ALL}), "two policies"),
        (lambda f: f.update({"more.cedar": b"permit("}), "cannot be read"),
        (lambda f: f.update({"more.cedar": b"\xff"}), "UTF-8"),
        (
            lambda f: f.update(
                {"more.cedar": b'@id("x") permit(principal, action, resource) when { context.no > 1 };'}
            ),
            "do not fit",
        ),
        (lambda f: f.update({"run.sh": b""}), "no part"),
        (lambda f: f.update({"scenarios/x.py": b""}), "no part"),
    ],
)  # fmt: skip
def test_a_bundle_that_is_none_is_refused(change: Callable[[dict[str, bytes]], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        changed(change)


def test_a_forbid_that_errors_denies() -> None:
    # Beyond 2^63 Cedar's arithmetic errors; by its own rule the forbid is skipped, and Allow is the answer.
    bundle = with_policy(
        '@id("overflow") forbid(principal, action, resource) '
        "when { context.session.risk + 9223372036854775807 > 0 };"
    )
    verdict = engine(bundle).decide(ASKED)
    assert (verdict.decision, verdict.reason, verdict.policy_id) == ("error", "policy_error", "default-deny")
    assert not verdict.allowed
    assert verdict.errors


def test_both_agent_and_user_must_be_permitted() -> None:
    judge = engine(read_bundle(EXAMPLE))
    assert judge.decide(ASKED).allowed
    assert judge.decide(dataclasses.replace(ASKED, agent=None)).allowed
    assert judge.decide(dataclasses.replace(ASKED, user=None)).allowed
    nobody = User(id="user:nobody", tenant="t1", roles=["approver"], data_classes=[], risk=1)
    other = Engine(read_bundle(EXAMPLE), users=[nobody], workloads=[HELPER], resources=[TICKET], endpoints={})
    verdict = other.decide(dataclasses.replace(ASKED, user=nobody))
    assert (verdict.decision, verdict.policy_id) == ("deny", "default-deny")
    assert not judge.decide(dataclasses.replace(ASKED, user=None, agent=None)).allowed


def test_what_nobody_registered_is_denied() -> None:
    judge = engine(read_bundle(EXAMPLE))
    for change in (
        {"agent": "agent:production/unknown"},
        {"agent": "nobody"},
        {"user": ANN.model_copy(update={"id": "user:unknown"})},
        {"resource": TICKET.model_copy(update={"id": "ticket:unknown"})},
        {"resource": "tool:p/unknown"},
        {"action": READ.model_copy(update={"name": "ticket:unknown"})},
    ):
        assert not judge.decide(dataclasses.replace(ASKED, **change)).allowed, change


def test_nobody_approves_what_would_be_refused_all_the_same() -> None:
    bundle = with_policy(
        '@id("a-approval") @reason("approval_required") forbid(principal, action, resource) '
        "when { !context.approved };"
    )
    far = dataclasses.replace(ASKED, session=dataclasses.replace(SESSION, tenant="t9"))
    assert engine(bundle).decide(ASKED).reason == "approval_required"
    assert engine(bundle).decide(far).reason == "tenant_boundary"


def test_a_bundle_without_tests_or_with_wrong_ones_is_refused() -> None:
    bare = changed(lambda files: files.pop("scenarios/work.yml"))
    with pytest.raises(UsageError, match="no scenario tests"):
        run_scenarios(bare)
    text = (EXAMPLE / "scenarios/work.yml").read_bytes()
    for wrong in (b"tests: []", b"fixtures: 1", text.replace(b'ticket:1", expect', b'ticket:99", expect', 1)):
        with pytest.raises(UsageError):
            run_scenarios(changed(lambda files, wrong=wrong: files.update({"scenarios/work.yml": wrong})))  # type: ignore[misc]  # a default argument
    failing = text.replace(b"expect: allow", b"expect: deny", 1)
    outcomes = run_scenarios(changed(lambda files: files.update({"scenarios/work.yml": failing})))
    assert [(one.expected, one.got) for one in outcomes if not one.ok] == [
        ("deny agent-within-scopes", "allow agent-within-scopes")
    ]


def test_a_review_is_somebody_elses_word_under_their_key() -> None:
    bundle = read_bundle(EXAMPLE)
    dan, grace, stranger = make_key(), make_key(), make_key()
    owners = {str(dan.kid): ("user:dan", dan), str(grace.kid): ("user:grace", grace)}
    good = make_review(bundle, "user:dan", dan, now=10)
    assert find_review(bundle, ["junk", good], owners.get, now=10).reviewer == "user:dan"
    other = dataclasses.replace(bundle, digest="0" * 64)
    claims = {"digest": bundle.digest, "reviewer": "user:dan", "at": 10}
    for bad in (
        make_review(other, "user:dan", dan, now=10),
        make_review(bundle, "user:dan", dan, now=100),
        sign({**claims, "reviewer": "user:erin"}, TYP, dan),
        sign({**claims, "reviewer": "user:grace"}, TYP, grace),
        sign(claims, TYP, stranger),
        sign({**claims, "at": "10"}, TYP, dan),
        sign(claims, "at+jwt", dan),
    ):
        with pytest.raises(UsageError, match="Nobody but its author"):
            find_review(bundle, [bad], owners.get, now=10)
    with pytest.raises(UsageError, match="author"):
        make_review(bundle, "user:grace", grace, now=10)


def test_links_and_crowds_are_no_bundles(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no policy bundle"):
        read_bundle(tmp_path / "none")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/bundle.yml").symlink_to(EXAMPLE / "bundle.yml")
    with pytest.raises(UsageError, match="link"):
        read_bundle(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for n in range(201):
        (tmp_path / f"b/{n}.cedar").touch()
    with pytest.raises(UsageError, match="200 files"):
        read_bundle(tmp_path / "b")


def test_the_commands(company: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = company / "policies/agents-1", tmp_path / "agents-2"
    assert run(decision_ledger.app, ["issuer", "policy", "test", str(first)]) == 0
    assert "19 scenario tests, 0 failed" in capsys.readouterr().out
    second.mkdir()
    for path, data in read_bundle(first).files.items():
        (second / path).parent.mkdir(exist_ok=True)
        (second / path).write_bytes(
            data.replace(b">= 70", b">= 60").replace(b'version: "1"', b'version: "2"')
        )
    assert run(decision_ledger.app, ["issuer", "policy", "diff", str(first), str(second), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["policy"], one["change"]) for one in found["policies"]] == [("risk", "changed")]
    assert run(decision_ledger.app, ["issuer", "policy", "diff", str(first), str(second)]) == 0
    assert "  + " in capsys.readouterr().out
    review = ["issuer", "policy", "review", str(second), "--state", str(company), "--reviewer"]
    assert run(decision_ledger.app, [*review, "user:grace"]) == 2
    assert run(decision_ledger.app, [*review, "dan"]) == 2
    assert run(decision_ledger.app, [*review, "user:dan"]) == 0
    assert len(reviews_of(company, read_bundle(second).digest)) == 1
    capsys.readouterr()
    tests = second / "scenarios/work.yml"
    tests.write_bytes(tests.read_bytes().replace(b"risk: 70", b"risk: 59"))
    assert run(decision_ledger.app, ["issuer", "policy", "test", str(second)]) == 1
    assert "work.yml:36: anything at a high risk: expected deny" in capsys.readouterr().out
    assert "risk" in policy_texts(read_bundle(second))
