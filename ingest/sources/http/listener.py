"""The listener: takes messages over HTTP and answers 2xx when they are on the disk, and not before."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import threading
from collections.abc import Sequence
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.sources.http.messages import MAX_BODY_BYTES, Unusable, messages_of
from ingest.sources.http.spool import Message, Spool, SpoolFull
from ledger.errors import OutsideError

RETRY_SECONDS: Final = 1
BODY_SECONDS: Final = 30.0
"""How long a body may take to arrive."""
MAX_CONCURRENT: Final = 256
START_SECONDS: Final = 10.0

log = structlog.get_logger()


class Listener:
    """One port in front of one spool, in a thread of its own."""

    def __init__(self, spool: Spool, host: str, port: int, tokens: Sequence[str]) -> None:
        """Bind the port; `tokens` are those that senders may show, none: anybody may send.

        Raises:
            OutsideError: the port cannot be had.
        """
        self._spool = spool
        self._tokens = [token.encode() for token in tokens]
        self._waiting: list[tuple[list[Message], asyncio.Future[None]]] = []
        self._left: asyncio.Event | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            self._socket.listen(512)
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise OutsideError(f"{host}:{port} cannot be had: {error}.", "Choose another port.") from None
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self.app(), log_config=None, access_log=False, lifespan="off", server_header=False,
            date_header=False, limit_concurrency=MAX_CONCURRENT, http="h11", timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=32_768,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="listen", daemon=True)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/events", self._take, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
            ]
        )

    def start(self) -> None:
        """Begin to listen; returns when requests are answered.

        Raises:
            OutsideError: it did not begin.
        """
        self._thread.start()
        until = threading.Event()
        for _ in range(int(START_SECONDS * 100)):
            if self._server.started:
                return
            until.wait(0.01)
        raise OutsideError("The listener did not start.", "Run with -v, and look at the log.")

    def stop(self) -> None:
        """Take nothing more; what was answered for stays in the spool."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._left = asyncio.Event()
        writer = asyncio.create_task(self._write())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    async def _write(self) -> None:
        """One write to the disk for all requests that wait: the more come, the more share it."""
        assert self._left is not None
        while True:
            await self._left.wait()
            self._left.clear()
            taken, self._waiting = self._waiting, []
            try:
                messages = [message for group, _ in taken for message in group]
                await asyncio.to_thread(self._spool.append, messages)
            except (SpoolFull, OutsideError) as error:
                for _, done in taken:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in taken:
                if not done.done():
                    done.set_result(None)

    async def _take(self, request: Request) -> Response:
        if not self._may_send(request):
            return _answer(401, "Show a token of this intake: Authorization: Bearer …", authenticate=True)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
            messages = await asyncio.to_thread(
                messages_of, body, request.headers.get("content-type", ""),
                request.headers.get("content-encoding", ""),
            )  # fmt: skip
        except Unusable as unusable:
            return _answer(unusable.status, unusable.message)
        except TimeoutError:
            return _answer(408, f"The body took longer than {BODY_SECONDS:g} s.")
        except ClientDisconnect:
            return Response(status_code=499)
        if messages:
            try:
                await self._kept(messages)
            except SpoolFull:
                return _answer(503, "The ledger is behind; send it again.", retry=True)
            except OutsideError as error:
                log.error("spool", error=str(error))
                return _answer(503, "It could not be kept; send it again.", retry=True)
        return JSONResponse({"messages": len(messages)}, 202)

    async def _kept(self, messages: list[Message]) -> None:
        assert self._left is not None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((messages, done))
        self._left.set()
        await done

    def _may_send(self, request: Request) -> bool:
        if not self._tokens:
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        shown = token.strip().encode("utf-8", "replace")
        fits = [hmac.compare_digest(shown, known) for known in self._tokens]
        return scheme.lower() == "bearer" and any(fits)

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"waiting_bytes": self._spool.size, "next": self._spool.end})


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > MAX_BODY_BYTES:
        raise Unusable(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes: send less at once.")
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > MAX_BODY_BYTES:
            raise Unusable(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes: send less at once.")
    return bytes(held)


def _answer(status: int, message: str, *, retry: bool = False, authenticate: bool = False) -> Response:
    headers = {"Retry-After": str(RETRY_SECONDS)} if retry else {}
    if authenticate:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": message}, status, headers=headers)
