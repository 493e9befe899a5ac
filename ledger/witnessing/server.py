"""The witness over HTTP: `POST /add-checkpoint`, and which heads it has seen at `GET /heads`."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ledger.errors import OutsideError
from ledger.format.note import Signer, VerifierKey
from ledger.witnessing import cosigning
from ledger.witnessing.cosigning import MAX_BODY_BYTES, Refused, cosign, judge, parse_request
from ledger.witnessing.memory import WitnessMemory

PATH: Final = "/add-checkpoint"
BODY_SECONDS: Final = 10.0


class Witness:
    """One witness: its key, the logs that it knows, and its memory."""

    def __init__(
        self,
        signer: Signer,
        logs: Mapping[str, Sequence[VerifierKey]],
        memory: WitnessMemory,
        *,
        tokens: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = signer
        self._logs = logs
        self._memory = memory
        self._tokens = [token.encode() for token in tokens]
        self._clock = clock

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route(PATH, self._add, methods=["POST"]),
                Route("/heads", self._heads, methods=["GET"]),
                Route("/health", _health, methods=["GET"]),
            ]
        )

    def add_checkpoint(self, body: bytes) -> str:
        """The cosignature line for a request. Raises Refused or OutsideError."""
        request = parse_request(body)
        if request.checkpoint.origin not in self._logs:
            raise Refused(404, "This log is not known here.\n")  # before it takes up room in the memory
        self._memory.advance(request.checkpoint.origin, lambda known: judge(request, self._logs, known))
        return cosign(request, self._signer, int(self._clock()))

    async def _add(self, request: Request) -> Response:
        if not self._may(request):
            return PlainTextResponse(
                "Show a token: Authorization: Bearer …\n", 401, {"WWW-Authenticate": "Bearer"}
            )
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
            line = await run_in_threadpool(self.add_checkpoint, body)
        except Refused as refused:
            return Response(refused.body, refused.status, media_type=refused.content_type)
        except TimeoutError:
            return PlainTextResponse(f"The body took longer than {BODY_SECONDS:g} s.\n", 408)
        except ClientDisconnect:
            return Response(status_code=499)
        except OutsideError:
            return PlainTextResponse("The head could not be remembered; send it again.\n", 503)
        return PlainTextResponse(line)

    async def _heads(self, request: Request) -> Response:
        if not self._may(request):
            return PlainTextResponse("Show a token.\n", 401, {"WWW-Authenticate": "Bearer"})
        heads = await run_in_threadpool(self._memory.all)
        key = cosigning.cosigner_key(self._signer).text
        return JSONResponse(
            {
                "vkey": key,
                "heads": {
                    origin: {"size": one.size, "root": one.root.hex()} for origin, one in heads.items()
                },
            }
        )

    def _may(self, request: Request) -> bool:
        if not self._tokens:
            return True
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        given = shown.strip().encode()
        # All are compared, so that the time tells nothing.
        fitting = [token for token in self._tokens if hmac.compare_digest(given, token)]
        return scheme.lower() == "bearer" and bool(fitting)


async def _health(_: Request) -> Response:
    return JSONResponse({"ok": True})


async def _body(request: Request) -> bytes:
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > MAX_BODY_BYTES:
            raise Refused(413, f"A request has at most {MAX_BODY_BYTES:,} bytes.\n")
    return bytes(held)
