"""Envoy access logs: only what the authorizer is known to have answered is a decision."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adapting import attributes, decoded, events
from tests.foreign_shapes import ENVOY


def test_a_request_that_the_authorizer_refused() -> None:
    (one,) = events("envoy", ENVOY)
    assert one["event_id"] == "0c5b/gateway-1/2026-11-23T10:00:00.123Z"
    assert (one["kind"], one["decision"], one["reason"]) == ("decision", "deny", "ext_authz_denied")
    assert (one["action"], one["resource"]) == ("http:post", "url:pay.example:443/v1/pay")
    assert (one["outcome"], one["workload"]) == ("failed", "spiffe://example/agent")
    assert (one["client_ip"], one["instance"]) == ("10.0.0.4", "gateway-1")
    assert one["trace_id"] == "45d06438e93c4a26bfc645eeddb2ffbf"
    assert "route_name" not in attributes(one)
    assert attributes(one)["ext_authz"] == {"policy": "p1", "roles": ["payer"]}


@pytest.mark.parametrize(
    ("changed", "kind", "decision", "outcome"),
    [
        ({"response_flags": "-", "response_code_details": "via_upstream"}, "decision", "allow", "failed"),
        ({"response_flags": "-", "response_code_details": "via_upstream", "ext_authz": None}, "action", None,
         "failed"),
        ({"response_flags": "UAEX", "response_code_details": "ext_authz_error"}, "decision", "error",
         "failed"),
        ({"response_flags": "RL,UAEX", "response_code_details": "x"}, "decision", "deny", "failed"),
        ({"response_code": 200, "response_flags": "-", "response_code_details": "via_upstream"}, "decision",
         "allow", "succeeded"),
        ({"response_code": 0, "response_flags": "DC", "response_code_details": "-", "ext_authz": {}},
         "action", None, "failed"),
        ({"response_code": "204", "response_flags": "-", "response_code_details": "-", "ext_authz": {}},
         "action", None, "succeeded"),
    ],
)  # fmt: skip
def test_a_403_alone_is_no_deny(
    changed: dict[str, Any], kind: str, decision: str | None, outcome: str
) -> None:
    (one,) = events("envoy", {**ENVOY, **changed})
    assert (one["kind"], one.get("decision"), one["outcome"]) == (kind, decision, outcome)


def test_where_the_authorizer_is_asked_about_everything_what_went_through_is_allowed() -> None:
    plain = {**ENVOY, "response_flags": "-", "response_code_details": "via_upstream", "ext_authz": "-"}
    (one,) = events("envoy", plain, always_asked=True, source="envoy/edge")
    assert (one["decision"], one["policy_engine"], one["source"]) == ("allow", "ext_authz", "envoy/edge")


def test_an_egress_gateway_says_so_by_configuration() -> None:
    (one,) = events(
        "envoy", ENVOY,
        fields={
            "pep": {"const": "egress"}, "destination": "/authority",
            "delegated_actor": {"pointer": "/ext_authz/policy", "prefix": "agent:"},
        },
    )  # fmt: skip
    assert (one["pep"], one["destination"], one["delegated_actor"]) == (
        "egress",
        "pay.example:443",
        "agent:p1",
    )


def test_what_has_no_request_id_is_named_by_its_digest_and_what_is_no_entry_is_refused() -> None:
    (one,) = events("envoy", {**ENVOY, "request_id": "-"})
    assert one["event_id"].startswith("sha256:")
    found = decoded("envoy", {"start_time": "-"}, {"start_time": "2026-11-23T10:00:00Z"})
    assert [(one.reason, one.field) for one in found.rejected] == [
        ("missing", "start_time"),
        ("missing", "response_code"),
    ]


def test_a_query_and_its_secrets_stay_out() -> None:
    (one,) = events("envoy", {**ENVOY, "path": "/cb?access_token=hunter2hunter2"})
    assert "hunter2" not in repr(one)
    assert one["masked"] == ["/path"]
