"""One message of each foreign format with most of what it may hold, in our own words: what tests mutate."""

from __future__ import annotations

from typing import Any, Final

OPA: Final[dict[str, Any]] = {
    "labels": {"app": "todo", "id": "i1", "version": "1.22.2", "environment": "staging"},
    "decision_id": "0a0cad16", "timestamp": "2026-11-23T18:22:36.218342371Z", "path": "authz/allow",
    "bundles": {"authz": {"revision": "git-1"}}, "requested_by": "127.0.0.1:50190",
    "input": {"subject": {"type": "user", "id": "beth"}, "action": {"name": "read"},
              "resource": {"type": "todo", "id": "7"}, "context": {"tenant": "acme"}},
    "result": {"decision": True, "context": {"roles": ["admin"], "reason": "ok"}}, "req_id": 4,
    "request_context": {"http": {"headers": {
        "Traceparent": ["00-45d06438e93c4a26bfc645eeddb2ffbf-6ac4d6acdded49d8-01"], "User-Agent": ["x"]}}},
}  # fmt: skip
CERBOS: Final[dict[str, Any]] = {
    "log.kind": "decision", "callId": "01ABC", "timestamp": "2026-11-23T18:20:20.288346034Z",
    "peer": {"address": "10.0.0.7:51436", "userAgent": "gateway/1"},
    "checkResources": {
        "inputs": [{"requestId": "r1", "resource": {"kind": "invoice", "id": "7", "attr": {"owner": "mary"}},
                    "principal": {"id": "mary", "roles": ["clerk"]}, "actions": ["pay", "approve"],
                    "auxData": {"jwt": {"iss": "https://idp.example"}}}],
        "outputs": [{"requestId": "r1", "resourceId": "7", "effectiveDerivedRoles": ["owner"], "actions": {
            "approve": {"effect": "EFFECT_ALLOW", "policy": "resource.invoice.v3"},
            "pay": {"effect": "EFFECT_DENY", "policy": "NO_MATCH"}}}],
    },
    "metadata": {"traceparent": {"values": ["00-2810108e895a48d69ac3fc3f9c58b5eb-cecb7d27897a426d-01"]}},
    "auditTrail": {"effectivePolicies": {"resource.invoice.v3": {"attributes": {"driver": "disk"}}}},
    "policySource": {"git": {"hash": "deadbeef"}},
}  # fmt: skip
KUBERNETES: Final[dict[str, Any]] = {
    "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "aa-1",
    "stage": "ResponseComplete", "verb": "update",
    "requestURI": "/apis/apps/v1/namespaces/shop/deployments/web/scale?dryRun=All",
    "user": {"username": "system:serviceaccount:shop:web", "uid": "u-1", "groups": ["system:serviceaccounts"],
             "extra": {"authentication.kubernetes.io/credential-id": ["JTI=f00d"]}},
    "sourceIPs": ["10.1.2.3", "10.9.9.9"], "userAgent": "kubectl/1.33",
    "objectRef": {"resource": "deployments", "namespace": "shop", "name": "web", "apiGroup": "apps",
                  "apiVersion": "v1", "subresource": "scale"},
    "responseStatus": {"metadata": {}, "code": 200},
    "requestReceivedTimestamp": "2026-11-23T10:00:01.400000Z",
    "stageTimestamp": "2026-11-23T10:00:01.500000Z",
    "annotations": {
        "authorization.k8s.io/decision": "allow",
        "authorization.k8s.io/reason": 'RBAC: allowed by RoleBinding "shop/readers" of Role "reader" to '
                                       'ServiceAccount "web/shop"'},
}  # fmt: skip
CLOUDTRAIL: Final[dict[str, Any]] = {
    "eventVersion": "1.09", "eventID": "e-1", "eventTime": "2026-11-23T10:00:00Z", "eventType": "AwsApiCall",
    "eventCategory": "Management", "eventSource": "sts.amazonaws.com", "eventName": "AssumeRole",
    "awsRegion": "eu-central-1", "recipientAccountId": "111122223333", "requestID": "r-1",
    "sourceIPAddress": "192.0.2.7", "userAgent": "sdk/1", "readOnly": True, "sharedEventID": "s-1",
    "userIdentity": {
        "type": "AssumedRole", "principalId": "AROA1:bot", "accountId": "111122223333",
        "accessKeyId": "ASIA1",
        "arn": "arn:aws:sts::111122223333:assumed-role/planner/bot",
        "sessionContext": {"sessionIssuer": {"type": "Role", "arn": "arn:aws:iam::111122223333:role/planner"},
                           "sourceIdentity": "alice"}},
    "requestParameters": {"roleArn": "arn:aws:iam::111122223333:role/poster", "roleSessionName": "bot"},
    "responseElements": {
        "credentials": {"accessKeyId": "ASIA2", "expiration": "Nov 23, 2026, 11:00:00 AM",
                        "sessionToken": "hidden-by-its-name"},
        "assumedRoleUser": {"assumedRoleId": "AROA2:bot"}},
    "resources": [{"ARN": "arn:aws:iam::111122223333:role/poster", "type": "AWS::IAM::Role"}],
}  # fmt: skip
OPENFGA: Final[dict[str, Any]] = {
    "level": "info", "timestamp": 1_795_514_400.25, "msg": "grpc_req_complete",
    "build.version": "v1.22.1",
    "grpc_service": "openfga.v1.OpenFGAService", "grpc_method": "BatchCheck", "grpc_type": "unary",
    "trace_id": "45d06438e93c4a26bfc645eeddb2ffbf", "user_agent": "openfga-sdk go/0.7",
    "raw_request": {
        "store_id": "01STORE", "authorization_model_id": "", "consistency": "UNSPECIFIED",
        "checks": [
            {"tuple_key": {"user": "user:anne", "relation": "reader", "object": "document:1"},
             "contextual_tuples": None, "context": {"ip": "10.0.0.1"}, "correlation_id": "c1"},
            {"tuple_key": {"user": "agent:bot", "relation": "writer", "object": "document:1"},
             "contextual_tuples": {"tuple_keys": []}, "context": None, "correlation_id": "c2"}]},
    "raw_response": {"result": {"c1": {"allowed": True},
                                "c2": {"error": {"input_error": "validation_error", "message": "no"}}}},
    "query_duration_ms": "3", "authorization_model_id": "01MODEL", "request_id": "r-1", "grpc_code": 0,
}  # fmt: skip
ENVOY: Final[dict[str, Any]] = {
    "start_time": "2026-11-23T10:00:00.123Z", "method": "POST", "path": "/v1/pay?amount=3",
    "authority": "pay.example:443", "protocol": "HTTP/2", "response_code": 403, "response_flags": "UAEX",
    "response_code_details": "ext_authz_denied", "duration": 4, "bytes_received": 10, "bytes_sent": 0,
    "request_id": "0c5b", "node": "gateway-1", "user_agent": "agent/1", "route_name": "-",
    "x_forwarded_for": "203.0.113.9,10.0.0.4", "downstream_remote_address": "10.0.0.5:40312",
    "downstream_peer_uri_san": "spiffe://example/agent", "upstream_cluster": "pay",
    "traceparent": "00-45d06438e93c4a26bfc645eeddb2ffbf-6ac4d6acdded49d8-01",
    "ext_authz": {"policy": "p1", "roles": ["payer"]},
}  # fmt: skip
VAULT: Final[dict[str, Any]] = {
    "time": "2026-11-23T10:00:00.292517Z", "type": "response",
    "auth": {
        "accessor": "acc-1", "client_token": "hmac-sha256:aa", "display_name": "approle-planner",
        "entity_id": "e-1", "metadata": {"role_name": "planner"}, "policies": ["default", "planner"],
        "token_policies": ["default", "planner"], "token_type": "service", "token_ttl": 3600,
        "token_issue_time": "2026-11-23T09:00:00Z", "remaining_uses": 3,
        "policy_results": {"allowed": True, "granting_policies": [
            {"name": "planner", "namespace_id": "root", "type": "acl"}, {"type": ""}]}},
    "request": {
        "id": "q-1", "client_id": "c-1", "client_token": "hmac-sha256:aa", "client_token_accessor": "acc-1",
        "operation": "update", "path": "auth/token/create", "mount_type": "token",
        "mount_point": "auth/token/", "namespace": {"id": "root", "path": "team/"},
        "remote_address": "10.0.0.9", "remote_port": 4711,
        "data": {"ttl": "hmac-sha256:bb", "num_uses": 1}},
    "response": {"mount_type": "token", "auth": {
        "accessor": "acc-2", "client_token": "hmac-sha256:cc", "display_name": "token-job", "token_ttl": 600,
        "policies": ["default"], "token_type": "service"}},
}  # fmt: skip
TELEPORT: Final[dict[str, Any]] = {
    "ei": 0, "event": "cert.create", "uid": "6c40-1", "code": "TC000I", "time": "2026-11-23T10:00:00.529Z",
    "cluster_name": "prod.example", "cert_type": "user", "user_agent": "tbot/19", "user": "bot-ci",
    "addr.remote": "10.0.0.3:5022", "server_id": "s-1", "success": True,
    "identity": {
        "user": "bot-ci", "bot_name": "ci", "bot_instance_id": "i-1", "roles": ["deployer"], "expires":
        "2026-11-23T11:00:00Z", "kubernetes_groups": ["edit"], "disallow_reissue": True,
        "prev_identity_expires": "0001-01-01T00:00:00Z"},
    "attributes": {"repository": "acme/shop", "sub": "repo:acme/shop"},
}  # fmt: skip
AUTHZEN: Final[dict[str, Any]] = {
    "id": "d-1", "timestamp": "2026-11-23T10:00:00Z", "type": "evaluations", "transaction_id": "x-1",
    "trace_id": "45d06438e93c4a26bfc645eeddb2ffbf", "span_id": "6ac4d6acdded49d8",
    "request": {
        "subject": {"type": "user", "id": "beth", "properties": {"roles": ["clerk"], "level": 3}},
        "context": {"agent": "planner", "purpose": "audit"},
        "options": {"evaluations_semantic": "execute_all"},
        "evaluations": [
            {"action": {"name": "read"}, "resource": {"type": "invoice", "id": "7"}},
            {"action": {"name": "pay", "properties": {"amount": 12}},
             "resource": {"type": "invoice", "id": "7"}}]},
    "response": {"evaluations": [
        {"decision": True},
        {"decision": False, "context": {"reason": {"403": "limit"}, "approval": {"id": "a-1"}}}]},
    "policies": {"invoices": "v7"}, "information": {"pip": "2026-11-01"}, "configuration": {"pdp": "c1"},
}  # fmt: skip
CLOUDEVENTS: Final[dict[str, Any]] = {
    "specversion": "1.0", "id": "ce-1", "source": "gateway/eu", "type": "example.gateway.decision",
    "time": "2026-11-23T10:00:00Z", "datacontenttype": "application/json", "subject": "invoice 7",
    "traceparent": "00-45d06438e93c4a26bfc645eeddb2ffbf-6ac4d6acdded49d8-01", "region": "eu",
    "data": {"actor": "user:beth", "action": "pay", "resource": "invoice:7", "decision": "deny",
             "attributes": {"amount": 12}},
}  # fmt: skip
SIGNED: Final = frozenset({"ssf"})
"""Formats of which a message that is changed is no message: they have tests of their own."""
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "opa": OPA,
    "cerbos": CERBOS,
    "kubernetes": KUBERNETES,
    "cloudtrail": CLOUDTRAIL,
    "openfga": OPENFGA,
    "envoy": ENVOY,
    "vault": VAULT,
    "teleport": TELEPORT,
    "authzen": AUTHZEN,
    "cloudevents": CLOUDEVENTS,
}
