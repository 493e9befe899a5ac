"""Commands on witnesses: witness serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.console import JsonOption, note
from ledger.errors import UsageError

KEY_FILE: Final = "witness.key"
MEMORY_FILE: Final = "heads.sqlite"

witness_app = typer.Typer(no_args_is_help=True, help="A second party that cosigns heads.")


@witness_app.callback()
def witness() -> None:
    """A second party that cosigns heads."""


@witness_app.command("serve")
def witness_serve(
    state: Annotated[
        Path, typer.Option("--state", help="A folder of its own: the witness's key and memory.")
    ],
    log: Annotated[
        list[str], typer.Option("--log", help="The verifier key of a log that is cosigned; several times.")
    ],
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT.")] = "127.0.0.1:8099",
    name: Annotated[
        str | None, typer.Option("--name", help="The witness's name, for the key that is made.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Tokens that askers show, one a line.")
    ] = None,
    ssl_cert: Annotated[Path | None, typer.Option("--ssl-cert", help="Our certificate, PEM.")] = None,
    ssl_key: Annotated[Path | None, typer.Option("--ssl-key", help="Our certificate's key, PEM.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Cosign the heads of logs, each only where it extends the last one (c2sp.org/tlog-witness).

    Example: decision-ledger witness serve --state witness --name witness.example --log log.example+1a2b…
    """
    import uvicorn

    from ledger.console import answer
    from ledger.format.note import VerifierKey
    from ledger.log.signing import SigningKey, create_key
    from ledger.settings.listening import LOOPBACK, address, read_tokens
    from ledger.witnessing.cosigning import cosigner_key
    from ledger.witnessing.memory import WitnessMemory
    from ledger.witnessing.server import Witness

    host, port = address(listen)
    tokens = read_tokens(token_file)
    if host not in LOOPBACK and not tokens:
        raise UsageError(
            f"{host} can be reached by others, and anybody could ask.", "Give tokens with --token-file."
        )
    logs: dict[str, list[VerifierKey]] = {}
    for text in log:
        key = VerifierKey.from_text(text)
        logs.setdefault(key.name, []).append(key)
    path = state / KEY_FILE
    if not path.exists():
        if name is None:
            raise UsageError(f"There is no witness in {state} yet.", "Name it with --name to make its key.")
        create_key(path, name)
    signer = SigningKey(path).signer
    vkey = cosigner_key(signer).text
    serving = Witness(signer, logs, WitnessMemory(state / MEMORY_FILE), tokens=tokens)
    config = uvicorn.Config(
        serving.app(), host=host, port=port, log_config=None, access_log=False, lifespan="off",
        server_header=False, limit_concurrency=1_024, timeout_keep_alive=10,
        h11_max_incomplete_event_size=32_768, ssl_certfile=ssl_cert, ssl_keyfile=ssl_key,
    )  # fmt: skip
    answer(
        {"vkey": vkey, "logs": sorted(logs), "listen": listen},
        f"Verifier key of this witness: {vkey}",
        as_json,
    )
    note(f"Listening on {'http' if ssl_cert is None else 'https'}://{host}:{port}/add-checkpoint")
    uvicorn.Server(config).run()
