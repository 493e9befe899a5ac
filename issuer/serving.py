"""All services of one environment in one process: each on a port of its own, all on one state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import structlog
import uvicorn
from joserfc.jwk import OKPKey
from starlette.applications import Starlette

from issuer.authority.service import authority_service
from issuer.broker.service import broker_service
from issuer.deployment import SERVICES, Deployment
from issuer.egress.addresses import Resolve, resolve
from issuer.egress.service import egress_service
from issuer.emitting.emitter import Emitter
from issuer.emitting.recorder import Recorder
from issuer.emitting.sinks import Sink
from issuer.enforcement.broker_client import BrokerClient
from issuer.enforcement.keys import RemoteKeys
from issuer.enforcement.point import Point
from issuer.enforcement.reader import FeedReader
from issuer.enforcement.service import enforcement_service
from issuer.example.founding import key_path
from issuer.hops.worker import Worker
from issuer.pdp.service import pdp_service
from issuer.policy.activation import activate
from issuer.policy.bundle import read_bundle
from issuer.policy.review_files import reviews_of
from issuer.registry.exceptions import check
from issuer.registry.identities import PEP_OF_KIND
from issuer.registry.private_keys import read_private_key
from issuer.registry.registry import Registry, read_registry
from issuer.registry.trust import read_trust
from issuer.signals.service import signals_service
from issuer.state.database import FILE, Database
from issuer.state.grants import add_exception, add_grant
from issuer.state.policies import active
from ledger.errors import OutsideError, UsageError
from ledger.settings.yaml_file import read_yaml

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 15.0
DRAIN_SECONDS: Final = 5.0
POINTS: Final = ("gateway", "router", "adapter", "worker", "egress")
"""Services that enforce; each is a kind of workload, too."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """How a deployment is run."""

    folder: Path
    environment: str
    host: str = HOST
    base_port: int = 9_400
    allow_test_destinations: bool = False
    feed_waits: bool = True
    """Whether enforcement points hold their polls until there is news (push), or ask every two seconds."""
    when_full: str = "refuse"


def urls_of(host: str, ports: Sequence[int]) -> dict[str, str]:
    """Where each service is reached."""
    shown = f"[{host}]" if ":" in host else host
    return {name: f"http://{shown}:{port}" for name, port in zip(SERVICES, ports, strict=True)}


def open_deployment(
    settings: Settings, urls: Mapping[str, str], *, clock: Callable[[], float] = time.time
) -> Deployment:
    """What is registered and remembered in the folder, ready to serve.

    Raises:
        UsageError: something registered has a fault, or no policy can be activated.
    """
    registry = read_registry(settings.folder)
    _check_environment(registry, settings.environment)
    trust = read_trust(settings.folder / "trust")
    db = Database(settings.folder / FILE)
    recorder = Recorder(db, clock=clock, when_full=settings.when_full)
    deployment = Deployment(
        settings.environment, registry, trust, db, recorder, urls, clock=clock,
        transmitters=_transmitters(settings.folder),
    )  # fmt: skip
    for grant in registry.grants.values():
        add_grant(db, grant)
    path = settings.folder / "exceptions.yml"
    if path.exists():
        records, faults = check(read_yaml(path))
        if faults:
            raise UsageError(
                f"{path}:{faults[0].line}: {faults[0].message}.",
                f"`decision-ledger exceptions check {path}` lists all faults.",
            )
        for record in records:
            add_exception(db, record)
    if active(db) is None:
        _activate_first(settings.folder, deployment)
    return deployment


@dataclass(slots=True)
class Stack:
    """The services of one deployment, as applications, and the tasks beside them."""

    deployment: Deployment
    apps: dict[str, Starlette] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    readers: list[FeedReader] = field(default_factory=list)
    emitter: Emitter | None = None
    workers: list[Worker] = field(default_factory=list)


def make_stack(
    deployment: Deployment,
    settings: Settings,
    client: httpx.AsyncClient,
    emitter: Emitter | None,
    *,
    resolver: Resolve = resolve,
) -> Stack:
    """The applications of all services; `client` is how they reach each other."""
    stack = Stack(deployment, emitter=emitter)
    stack.apps["authority"] = authority_service(deployment).app()
    stack.apps["broker"] = broker_service(deployment).app()
    stack.apps["pdp"] = pdp_service(deployment).app()
    stack.apps["signals"] = signals_service(deployment).app()
    for name in POINTS:
        keys = RemoteKeys(f"{deployment.urls['broker']}/jwks", client, deployment.clock)
        point = Point.of(deployment, name, PEP_OF_KIND[name], keys, emitter)
        own = _own_key(settings.folder, point.workload)
        stack.points[name] = point
        if name == "worker":
            stack.workers.append(Worker(point))
        stack.readers.append(FeedReader(point, own, client, waits=settings.feed_waits))
        if name == "egress":
            service = egress_service(
                point, settings.folder, allow_test=settings.allow_test_destinations, resolver=resolver
            )
        else:
            broker = BrokerClient(deployment, point.workload, own, client)
            service = enforcement_service(name, point, broker, client)
        stack.apps[name] = service.app()
    return stack


@contextlib.asynccontextmanager
async def served(
    settings: Settings, sink: Sink, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Stack]:
    """The whole deployment on its ports, until the block ends. It is ready when the block begins.

    Raises:
        OutsideError: a port is taken.
        UsageError: as `open_deployment`.
    """
    sockets = _listen(settings)
    try:
        ports = [one.getsockname()[1] for one in sockets]
        deployment = open_deployment(settings, urls_of(settings.host, ports), clock=clock)
    except BaseException:
        for one in sockets:
            one.close()
        raise
    emitter = Emitter(deployment.recorder, sink)
    client = httpx.AsyncClient(trust_env=False, timeout=12.0)
    stack = make_stack(deployment, settings, client, emitter)
    servers = [_server(stack.apps[name]) for name in SERVICES]
    tasks = [
        asyncio.create_task(server.serve(sockets=[one])) for server, one in zip(servers, sockets, strict=True)
    ]
    sending = asyncio.create_task(emitter.run())
    others: list[asyncio.Task[None]] = []
    try:
        await _started(servers, tasks)
        others += [asyncio.create_task(reader.run()) for reader in stack.readers]
        await _caught_up(stack)
        others += [asyncio.create_task(worker.run()) for worker in stack.workers]
        yield stack
    finally:
        for server in servers:
            server.should_exit = True
        for task in others:
            task.cancel()
        await asyncio.gather(*tasks, *others, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await emitter.drained()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await sink.close()
        await client.aclose()
        deployment.db.close()


def _check_environment(registry: Registry, environment: str) -> None:
    known = sorted({one.environment for one in registry.workloads.values()})
    if environment not in known:
        raise UsageError(
            f"Nothing is registered in the environment {environment!r}.", f"Use one of {', '.join(known)}."
        )


def _activate_first(folder: Path, deployment: Deployment) -> None:
    bundles = [path for path in sorted((folder / "policies").glob("*")) if path.is_dir()]
    if len(bundles) != 1:
        raise UsageError(
            f"No policy is active, and {folder / 'policies'} holds {len(bundles)} bundles.",
            "Activate one: `decision-ledger issuer policy activate BUNDLE`.",
        )
    bundle = read_bundle(bundles[0])
    activate(
        deployment.db, deployment.recorder, deployment.registry, bundle,
        reviews=reviews_of(folder, bundle.digest), owner_of=deployment.trust.owner_of,
        reason="the first policy of this deployment",
    )  # fmt: skip


def _transmitters(folder: Path) -> dict[str, dict[str, OKPKey]]:
    """`transmitters.json`: issuers of security events, each with its JWK Set."""
    from issuer.tokens.keys import BadKey, read_key  # noqa: PLC0415 - only where there is such a file

    path = folder / "transmitters.json"
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
        return {
            str(name): {str(key.kid): key for key in map(read_key, jwks["keys"])}
            for name, jwks in value.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, BadKey) as error:
        raise UsageError(
            f"{path} does not name issuers with their JWK Sets.", 'Write {"https://issuer": {"keys": […]}}.'
        ) from error


def _own_key(folder: Path, workload: str) -> OKPKey:
    return read_private_key(key_path(folder, workload))


def _listen(settings: Settings) -> list[socket.socket]:
    found: list[socket.socket] = []
    try:
        for number in range(len(SERVICES)):
            family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            one = socket.socket(family, socket.SOCK_STREAM)
            found.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((settings.host, settings.base_port + number if settings.base_port else 0))
            one.listen(512)
    except (OSError, OverflowError) as error:
        for one in found:
            one.close()
        port = settings.base_port + len(found) - 1
        raise OutsideError(
            f"Port {port} of {settings.host} cannot be had: {error}.", "Choose others with --base-port."
        ) from error
    return found


def _server(app: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, lifespan="off", server_header=False,
        date_header=False, limit_concurrency=512, timeout_keep_alive=30, h11_max_incomplete_event_size=32_768,
        http="h11", timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    # The command handles signals for all of them.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # no arguments needed
    return server


async def _started(servers: Sequence[uvicorn.Server], tasks: Sequence[asyncio.Task[None]]) -> None:
    until = asyncio.get_running_loop().time() + START_SECONDS
    while not all(server.started for server in servers):
        if any(task.done() for task in tasks) or asyncio.get_running_loop().time() > until:
            raise OutsideError("The services did not start.", "Run with -v, and look at the log.")
        await asyncio.sleep(0.01)


async def _caught_up(stack: Stack) -> None:
    until = asyncio.get_running_loop().time() + START_SECONDS
    while any(point.feed.too_old(stack.deployment.now(), high=True) for point in stack.points.values()):
        if asyncio.get_running_loop().time() > until:
            raise OutsideError("The enforcement points read no signals.", "Run with -v, and look at the log.")
        await asyncio.sleep(0.01)


async def serve_until_signal(settings: Settings, sink: Sink, ready: Callable[[dict[str, str]], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `ready` hears where each service is.

    Raises:
        UsageError: as `served`.
        OutsideError: as `served`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with served(settings, sink) as stack:
        ready(dict(stack.deployment.urls))
        await stop.wait()
