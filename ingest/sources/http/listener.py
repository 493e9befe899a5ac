"""The listener: takes messages over HTTP and answers 2xx when they are on the disk, and not before."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from ingest.sources.http.admission import Busy, Pace, Room, Share, Tokens
from ingest.sources.http.messages import (
    MAX_BODY_BYTES,
    Unusable,
    binary_message,
    is_binary_event,
    media_type,
    messages_of,
    opened,
)
from ingest.sources.http.openapi import document
from ingest.sources.http.spool import Message, Spool, SpoolFull
from ledger.errors import OutsideError

RETRY_SECONDS: Final = 1
HEAD_SECONDS: Final = 10.0
"""How long a connection may take to say what it wants."""
BODY_SECONDS: Final = 30.0
"""How long a body may take to arrive."""
MAX_CONNECTIONS: Final = 4_096
START_SECONDS: Final = 10.0
PUSHED_TYPE: Final = "application/secevent+jwt"
PATHS: Final = ("/events", "/logs", "/logs/{partition}")
"""Where messages are posted to; the last two are what OPA's decision log plugin uses."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the listener's certificate and key, and of those who may sign a sender's."""

    cert: Path
    key: Path | None = None
    client_ca: Path | None = None

    def settings(self) -> dict[str, Any]:
        """As the server takes them."""
        given: dict[str, Any] = {"ssl_certfile": self.cert, "ssl_keyfile": self.key}
        if self.client_ca is not None:
            given |= {"ssl_ca_certs": str(self.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return given


class Listener:
    """One port in front of one spool, in a thread of its own."""

    def __init__(
        self,
        spool: Spool,
        host: str,
        port: int,
        tokens: Sequence[str],
        *,
        tls: Tls | None = None,
        max_rate: int | None = None,
        binary_events: bool = False,
        open_token: Callable[[bytes], Message] | None = None,
    ) -> None:
        """Bind the port; `tokens` are those that senders may show, none: anybody may send.

        `max_rate` is of one sender, in messages a second. With `binary_events`, a request with `ce-` headers
        is one CloudEvent. With `open_token`, a body is a security event token and nothing else (RFC 8935);
        it gives what may be kept of it, or raises `Unusable`.

        Raises:
            OutsideError: the port or a file cannot be had.
        """
        self._spool = spool
        self._tokens = Tokens(tokens)
        self._pace = Pace(max_rate)
        self._room = Room()
        self._binary_events = binary_events
        self._open_token = open_token
        self._openers = asyncio.Semaphore(os.cpu_count() or 1)
        self._waiting: list[tuple[list[Message], asyncio.Future[None]]] = []
        self._left: asyncio.Event | None = None
        self._socket = _bound(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self.app(), log_config=None, access_log=False, lifespan="off", server_header=False,
            date_header=False, limit_concurrency=MAX_CONNECTIONS, http=_PromptProtocol,
            timeout_graceful_shutdown=5, h11_max_incomplete_event_size=32_768,
            **({} if tls is None else tls.settings()),
        )  # fmt: skip
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise OutsideError(f"The certificate cannot be used: {error}.", "Check --ssl-cert.") from None
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="listen", daemon=True)

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [Route(path, self._take, methods=["POST"]) for path in PATHS]
        described = Route("/openapi.json", self._described, methods=["GET"])
        return Starlette(routes=[*routes, Route("/health", self._health, methods=["GET"]), described])

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
        sender = self._sender(request)
        if sender is None:
            return _answer(401, "Show a token of this intake: Authorization: Bearer …", authenticate=True)
        if wait := self._pace.wait_seconds(sender):
            return _answer(429, "More came from this sender than it may send; send it again.", retry=wait)
        if self._spool.is_full:
            return _answer(503, "The ledger is behind; send it again.", retry=RETRY_SECONDS)
        try:
            with self._room.share() as share:
                messages = await self._read(request, share)
                self._pace.count(sender, len(messages))
                if messages:
                    await self._kept(messages)
        except Unusable as unusable:
            if unusable.code is not None:
                told = {"err": unusable.code, "description": unusable.message}
                return JSONResponse(told, unusable.status)
            return _answer(unusable.status, unusable.message, close=unusable.status == 400)
        except TimeoutError:
            return _answer(408, f"The body took longer than {BODY_SECONDS:g} s.")
        except ClientDisconnect:
            return Response(status_code=499)
        except Busy:
            return _answer(503, "Too much is being taken; send it again.", retry=RETRY_SECONDS)
        except SpoolFull:
            return _answer(503, "The ledger is behind; send it again.", retry=RETRY_SECONDS)
        except OutsideError as error:
            log.error("spool", error=str(error))
            return _answer(503, "It could not be kept; send it again.", retry=RETRY_SECONDS)
        if self._open_token is not None:
            return Response(status_code=202)  # without a body, by RFC 8935, section 2.2
        return JSONResponse({"messages": len(messages)}, 202)

    async def _read(self, request: Request, share: Share) -> list[Message]:
        headers = request.headers
        if {"content-length", "transfer-encoding"} <= {*headers.keys()}:
            # A proxy may have gone by the other of the two lengths (RFC 9112, section 6.1).
            raise Unusable(400, "The body's length is said in two ways: leave one out.")
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(request, share)
        # What is opened is held, and as much as there are cores at once.
        async with self._openers:
            data = await asyncio.to_thread(opened, body, headers.get("content-encoding", ""))
            share.take(max(0, len(data) - len(body)))
            if self._open_token is not None:
                if media_type(headers.get("content-type", "")) != PUSHED_TYPE:
                    raise Unusable(415, f"Send {PUSHED_TYPE}.", "invalid_request")
                return [await asyncio.to_thread(self._open_token, data)]
            if self._binary_events and is_binary_event(headers):
                return [await asyncio.to_thread(binary_message, data, headers)]
            return await asyncio.to_thread(messages_of, data, headers.get("content-type", ""))

    async def _kept(self, messages: list[Message]) -> None:
        assert self._left is not None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((messages, done))
        self._left.set()
        await done

    def _sender(self, request: Request) -> str | None:
        """Who sends, as far as its pace is concerned; None: who may not."""
        if not self._tokens:
            return "" if request.client is None else request.client.host
        number = self._tokens.sender(request.headers.get("authorization", ""))
        return None if number is None else f"token {number}"

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"waiting_bytes": self._spool.size, "next": self._spool.end})

    async def _described(self, _: Request) -> Response:
        return JSONResponse(document(pushed=self._open_token is not None))


class _PromptProtocol(H11Protocol):
    """Lets go of a connection that does not say what it wants: the server itself waits for ever."""

    _watch: asyncio.TimerHandle | None = None
    _answered: object = None
    """The request that was answered when the connection was last looked at, and nothing began since."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        cycle: Any = self.cycle  # None before the first request
        if cycle is None or (cycle.response_complete and cycle is self._answered):
            self.transport.close()
            return
        self._answered = cycle if cycle.response_complete else None
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)


def _bound(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(2_048)
    except (OSError, OverflowError) as error:
        made.close()
        raise OutsideError(f"{host}:{port} cannot be had: {error}.", "Choose another port.") from None
    # Each connection is a file; many machines allow 1,024 unless asked.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 512
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    return made


async def _body(request: Request, share: Share) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > MAX_BODY_BYTES:
        raise Unusable(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes: send less at once.")
    held = bytearray()
    async for piece in request.stream():
        share.take(len(piece))
        held += piece
        if len(held) > MAX_BODY_BYTES:
            raise Unusable(413, f"The body is larger than {MAX_BODY_BYTES:,} bytes: send less at once.")
    return bytes(held)


def _answer(
    status: int, message: str, *, retry: int | None = None, authenticate: bool = False, close: bool = False
) -> Response:
    headers = {} if retry is None else {"Retry-After": str(retry)}
    if close:
        headers["Connection"] = "close"
    if authenticate:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": message}, status, headers=headers)
