"""schemathesis over the HTTP intake: no request makes it fail, or answer otherwise than it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis.errors import Unsatisfiable

from ingest.sources.http.listener import PATHS, Listener
from ingest.sources.http.spool import Spool
from tests.tried_requests import body_of, few

TOKEN = "t" * 32
BOTH = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


for kind in ("application/jsonl", "application/x-jsonlines"):

    @schemathesis.serializer(kind)
    def _as_it_is(_: Any, value: Any) -> bytes:
        return str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    listener = Listener(spool, "127.0.0.1", 0, (TOKEN,), binary_events=True)
    listener.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.port}", trust_env=False) as made:
        yield made
    listener.stop()
    spool.close()


def test_every_route_is_described(client: httpx.Client) -> None:
    assert set(client.get("/openapi.json").json()["paths"]) == {*PATHS, "/health"}


@pytest.mark.parametrize("mode", BOTH, ids=["as asked", "otherwise"])
@pytest.mark.parametrize("known", [True, False], ids=["sender", "stranger"])
def test_no_request_finds_a_fault(client: httpx.Client, mode: Any, known: bool) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    for found in schema.get_all_operations():
        _try(client, found.ok(), mode, known=known)  # type: ignore[union-attr]  # a document of ours is valid


def _try(client: httpx.Client, operation: Any, mode: Any, *, known: bool) -> None:
    @few()
    @given(case=operation.as_strategy(generation_mode=mode))
    def tried(case: Any) -> None:
        request = case.as_transport_kwargs(base_url=str(client.base_url))
        headers = {
            key: value
            for key, value in (request.get("headers") or {}).items()
            if key.lower() not in ("host", "authorization") and value.isascii() and value.isprintable()
        }
        if known:
            headers["Authorization"] = f"Bearer {TOKEN}"
        body = body_of(request)
        before = client.get("/health").json()["next"]
        answer = client.request(case.method, request["url"], headers=headers, **body)
        declared = operation.definition.raw["responses"]
        assert str(answer.status_code) in {*declared, *(() if case.method == "POST" else ("405",))}, answer
        taken = client.get("/health").json()["next"] - before
        if answer.status_code == 202:
            assert known
            assert answer.json()["messages"] == taken
        else:
            assert taken == 0
            assert answer.status_code in {200, 405} or answer.json()["error"]

    try:
        tried()
    except Unsatisfiable:
        # Where nothing is asked for, nothing can be wrong.
        assert mode is schemathesis.GenerationMode.NEGATIVE
