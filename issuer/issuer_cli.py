"""Commands of the reference services: issuer init, serve, revoke, rotate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import BASE_PORT, DEFAULT_FOLDER, EVENTS_FILE, PURPOSES, WHEN_FULL
from issuer.drill_cli import drill_app
from issuer.exception_cli import exception_app
from issuer.policy_cli import FolderOption, policy_app
from issuer.scenario_cli import scenario_app
from ledger.console import JsonOption, answer, configure_logs, note, shared
from ledger.errors import UsageError
from ledger.format.plain_text import plain
from ledger.settings.listening import LOOPBACK

issuer_app = typer.Typer(no_args_is_help=True, help="The reference identity stack.")
issuer_app.add_typer(policy_app, name="policy")
issuer_app.add_typer(exception_app, name="exception")
issuer_app.add_typer(scenario_app, name="scenario")
issuer_app.add_typer(drill_app, name="drill")


@issuer_app.callback()
def issuer() -> None:
    """The reference identity stack: broker, policy, enforcement, egress. A model, not a product to expose."""


@issuer_app.command("init")
def init_issuer(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    as_json: JsonOption = False,
) -> None:
    """Write a working example of every file: registry, policies, keys, trust bundles, exceptions.

    Example: decision-ledger issuer init company
    """
    import time

    from issuer.example.founding import write_example

    passwords = write_example(folder, now=time.time())
    answer(
        {"folder": str(folder), "people": sorted(passwords), "passwords": str(folder / "passwords.json")},
        f"Wrote the example company into {folder}: agents.yml, tools.yml, destinations.yml, users.yml, "
        f"resources.yml,\ngrants.yml, exceptions.yml, policies/, trust/ (public keys), keys/ (private: for "
        f"trying out, here alone),\npasswords.json. A reference: do not expose it.\n"
        f"Next: decision-ledger issuer policy test {folder / 'policies' / 'agents-1'}",
        as_json,
    )


@issuer_app.command("serve")
def serve(
    folder: FolderOption = Path(DEFAULT_FOLDER),
    environment: Annotated[str, typer.Option(help="The environment to serve.")] = "production",
    host: Annotated[str, typer.Option(help="Where on this machine to listen.")] = "127.0.0.1",
    base_port: Annotated[
        int, typer.Option(help="The first of the services' ports; 0 takes any.", min=0, max=65_000)
    ] = BASE_PORT,
    events: Annotated[
        str | None,
        typer.Option(help="file:PATH, http://HOST:PORT/events or kafka:HOST:PORT/TOPIC; else a file here."),
    ] = None,
    when_full: Annotated[
        str, typer.Option(help="If no events can be sent for long: refuse steps, or drop events.")
    ] = WHEN_FULL[0],
    allow_test_destinations: Annotated[
        bool, typer.Option("--allow-test-destinations", help="Send to test_address; events say so.")
    ] = False,
    poll: Annotated[
        bool, typer.Option("--poll", help="Enforcement points ask every two seconds, and do not wait.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Start every service of one environment on loopback, until Ctrl-C. A model: do not expose it.

    Example: decision-ledger issuer serve --state company --events http://127.0.0.1:8088/events
    """
    import asyncio

    from issuer.emitting.sinks import open_sink
    from issuer.example.founding import write_example
    from issuer.serving import Settings, serve_until_signal

    configure_logs(shared.verbose)
    if host not in LOOPBACK:
        raise UsageError(
            f"{host} can be reached by others, and this model speaks plain HTTP.",
            "Listen on 127.0.0.1, ::1 or localhost.",
        )
    if when_full not in WHEN_FULL:
        raise UsageError(f"There is no way {when_full!r}.", f"Use {' or '.join(WHEN_FULL)}.")
    if not (folder / "agents.yml").exists():
        import time

        write_example(folder, now=time.time())
        note(f"{folder} was empty: the example company was written into it.")
    settings = Settings(
        folder, environment, host=host, base_port=base_port, when_full=when_full, feed_waits=not poll,
        allow_test_destinations=allow_test_destinations,
    )  # fmt: skip

    def ready(urls: dict[str, str]) -> None:
        width = max(map(len, urls))
        lines = [f"{name.ljust(width)}  {url}" for name, url in urls.items()]
        lines.append("A reference: it shows how it is done, and is not to be exposed. Ctrl-C ends it.")
        answer({"services": urls, "environment": environment}, "\n".join(lines), as_json)

    asyncio.run(serve_until_signal(settings, open_sink(events or f"file:{folder / EVENTS_FILE}"), ready))


@issuer_app.command("revoke")
def revoke_target(
    target: Annotated[str, typer.Argument(help="session:SID, credential:JTI or a principal.")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    by: Annotated[str, typer.Option(help="Who says so.")] = "user:operator",
    folder: FolderOption = Path(DEFAULT_FOLDER),
    as_json: JsonOption = False,
) -> None:
    """Revoke a session, a credential with all that was derived from it, or a principal.

    Example: decision-ledger issuer revoke agent:production/payment-runner --reason "key lost"
    """
    from issuer.revocation import revoke
    from issuer.state.opening import open_state

    with open_state(folder) as recorder:
        revoked = revoke(recorder.db, recorder, target, reason=reason, by=by, signal=True)
    answer(
        {"target": target, "reason": reason, "credentials": revoked},
        f"Revoked {plain(target)}; enforcement points hear of it at their next look.",
        as_json,
    )


@issuer_app.command("rotate")
def rotate_key(
    purpose: Annotated[str, typer.Option(help=f"One of {', '.join(PURPOSES)}.")] = "broker",
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Drop all keys of it at once; what they signed is void.")
    ] = False,
    folder: FolderOption = Path(DEFAULT_FOLDER),
    as_json: JsonOption = False,
) -> None:
    """Publish the next signing key, which signs ten minutes later; no token is lost.

    Example: decision-ledger issuer rotate --purpose broker
    """
    from issuer.revocation import KEY_REPLACED, tell
    from issuer.state.opening import open_state
    from issuer.state.signing_keys import KeyRing

    if purpose not in PURPOSES:
        raise UsageError(f"There are no keys for {purpose!r}.", f"Use {', '.join(PURPOSES)}.")
    with open_state(folder) as recorder, recorder.db.transaction():
        ring = KeyRing(recorder.db, purpose, recorder.clock)
        dropped: list[str] = []
        if compromised:
            kid, dropped = ring.replace_compromised()
            tell(
                recorder.db, recorder, f"key:{purpose}", KEY_REPLACED,
                reason="key-compromised", cause="key_replaced",
            )  # fmt: skip
            recorder.record(
                "revocation", target=f"key:{purpose}", reason="key-compromised", outcome="revoked",
                request_id=recorder.new_id(), attributes={"cause": "key_replaced", "dropped": dropped},
            )  # fmt: skip
        else:
            kid = ring.rotate()
    answer({"purpose": purpose, "kid": kid, "dropped": dropped}, f"The next {purpose} key is {kid}.", as_json)
