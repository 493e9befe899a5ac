"""schemathesis over the published OpenAPI documents: no request makes a service fail or answer otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import given
from hypothesis.errors import Unsatisfiable
from starlette.routing import Route

from issuer.web.openapi import OPERATIONS, TOOLS, UNDESCRIBED
from tests.issuing import DESK, URLS, Company
from tests.tried_requests import body_of, few

DOCUMENTED = ("authority", "broker", "pdp", "signals", "gateway", "router", "adapter", "worker")
BOTH = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


@schemathesis.serializer("application/secevent+jwt")
def _as_it_is(_: Any, value: Any) -> bytes:
    return str(value).encode()


@pytest.fixture(scope="module")
def firm(company: Path) -> Iterator[Company]:
    firm = Company.of(company)
    firm.hear()
    yield firm
    firm.close()


def test_every_route_is_described(firm: Company) -> None:
    for name in URLS:
        described = OPERATIONS.get(name, TOOLS)
        routes = [route for route in firm.stack.apps[name].routes if isinstance(route, Route)]
        there = {
            (method, route.path)
            for route in routes
            for method in (route.methods or set()) - {"HEAD"}
            if route.path not in UNDESCRIBED
        }
        assert there == set(described), name
        document = firm.call(name, "GET", "/openapi.json").body
        schemathesis.openapi.from_dict(document)
        assert document["openapi"] == "3.1.0"


def _headers(firm: Company, name: str, method: str, path: str) -> dict[str, str]:
    """What lets a request past the door of the service, so that what is behind it is tried as well."""
    if name in ("pdp", "signals"):
        return {"Authorization": f"Bearer {firm.assertion('router:production/main', name)}"}
    token = firm.user_token("user:dan")
    return {"Authorization": f"DPoP {token}", **firm.proof(DESK, method, URLS[name] + path, token)}


@pytest.mark.parametrize("inside", [False, True], ids=["stranger", "holder"])
@pytest.mark.parametrize("name", DOCUMENTED)
def test_no_request_finds_a_fault(firm: Company, name: str, inside: bool) -> None:
    schema = schemathesis.openapi.from_dict(firm.call(name, "GET", "/openapi.json").body)
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # a document of ours is valid
        for mode in BOTH:
            _try(firm, name, operation, mode, inside=inside)


def _try(firm: Company, name: str, operation: Any, mode: Any, *, inside: bool) -> None:
    @few()
    @given(case=operation.as_strategy(generation_mode=mode))
    def tried(case: Any) -> None:
        request = case.as_transport_kwargs(base_url=URLS[name])
        url = request["url"]
        path = url.removeprefix(URLS[name])
        kept = {key: value for key, value in (request.get("headers") or {}).items() if key.lower() != "host"}
        if inside:
            firm.time[0] += 0.1
            kept |= _headers(firm, name, case.method.upper(), path.partition("?")[0])
        body = body_of(request)
        if name == "signals" and isinstance(body.get("json"), dict):
            body["json"]["returnImmediately"] = True
        answer = firm.call(name, case.method.upper(), path, headers=kept, **body)
        declared = operation.definition.raw["responses"]
        assert answer.status < 500 or answer.status == 502, (answer, body)
        assert str(answer.status) in declared, (operation.label, answer, body)
        kinds = declared[str(answer.status)].get("content")
        if kinds:
            assert answer.headers["content-type"].partition(";")[0] in kinds
        if answer.status >= 400 and isinstance(answer.body, dict):
            assert answer.body["error"]
        assert "Traceback" not in str(answer.body)

    try:
        tried()
    except Unsatisfiable:
        # Where nothing is asked for, nothing can be wrong.
        assert mode is schemathesis.GenerationMode.NEGATIVE


def test_the_documents_are_served_over_real_sockets(firm: Company) -> None:
    server = uvicorn.Server(
        uvicorn.Config(firm.stack.apps["broker"], port=0, log_config=None, lifespan="off")
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # not from a thread
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait: Callable[[], bool] = partial(threading.Event().wait, 0.01)
    for _ in range(500):
        if server.started:
            break
        wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    assert sum(1 for _ in schema.get_all_operations()) == len(OPERATIONS["broker"])
    server.should_exit = True
    thread.join(10)
