"""Commands on witnesses: witness serve, add, remove, list, ask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ledger.console import (
    JsonOption,
    KeyOption,
    LedgerOption,
    VkeyOption,
    answer,
    note,
    open_ledger,
    store_at,
    table_text,
    writer_of,
)
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ledger.log.witness_policy import Policy
    from ledger.writer import Writer

KEY_FILE: Final = "witness.key"
MEMORY_FILE: Final = "heads.sqlite"

witness_app = typer.Typer(no_args_is_help=True, help="A second party that cosigns heads.")


@witness_app.callback()
def witness() -> None:
    """A second party that cosigns heads."""


@witness_app.command("serve")
def witness_serve(
    folder: Annotated[
        Path, typer.Option("--folder", help="A folder of its own: the witness's key and memory.")
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

    Example: decision-ledger witness serve --folder witness --name witness.example --log log.example+1a2b…
    """
    import uvicorn

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
    path = folder / KEY_FILE
    if not path.exists():
        if name is None:
            raise UsageError(f"There is no witness in {folder} yet.", "Name it with --name to make its key.")
        create_key(path, name)
    signer = SigningKey(path).signer
    vkey = cosigner_key(signer).text
    serving = Witness(signer, logs, WitnessMemory(folder / MEMORY_FILE), tokens=tokens)
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


QuorumOption = Annotated[
    int | None, typer.Option("--quorum", help="How many must have cosigned a head; as before, or 1.", min=1)
]
TokensOption = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        help='A TOML file of the tokens that witnesses ask for: name = "token".',
    ),
]  # fmt: skip


@witness_app.command("add")
def witness_add(
    vkey: Annotated[str, typer.Argument(help="The witness's verifier key, as `witness serve` prints it.")],
    url: Annotated[str, typer.Argument(help="Where it is asked, such as https://witness.example.")],
    quorum: QuorumOption = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have heads cosigned by one witness more. Which ones, and how many make a quorum, is sealed.

    Example: decision-ledger witness add 'witness.example+1a2b3c4d+BP…' https://witness.example --quorum 1
    """
    from ledger.log.witness_policy import Asked, policy_in_force, witness_key, witness_url

    writer = writer_of(ledger, key, "witness")
    one = Asked(witness_key(vkey), witness_url(url))
    _seal(writer, policy_in_force(writer.state, writer.store).with_witness(one, quorum), as_json=as_json)


@witness_app.command("remove")
def witness_remove(
    name: Annotated[str, typer.Argument(help="The witness, as `witness list` names it.")],
    quorum: QuorumOption = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask one witness no more, from here on.

    Example: decision-ledger witness remove witness.example
    """
    from ledger.log.witness_policy import policy_in_force

    writer = writer_of(ledger, key, "witness")
    _seal(writer, policy_in_force(writer.state, writer.store).without(name, quorum), as_json=as_json)


@witness_app.command("list")
def witness_list(vkey: VkeyOption = None, ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """The witnesses in force, and the last head that a quorum of them cosigned.

    Example: decision-ledger witness list
    """
    from ledger.log.witness_policy import as_rows, policy_in_force
    from ledger.witnessing.asking import witnessed

    with open_ledger(ledger, vkey) as opened:
        policy = policy_in_force(opened.state, opened.store)
        seen = witnessed(opened.store, policy)
        behind = opened.size - seen["size"]
    rows = [
        [one["name"], one["url"], "yes" if one["name"] in seen["names"] else "no"] for one in as_rows(policy)
    ]
    value = {"quorum": policy.quorum, "witnesses": as_rows(policy), "witnessed": seen, "behind": behind}
    if not rows:
        answer(value, "There is no witness.", as_json)
        return
    last = f"Quorum {policy.quorum}; {seen['size']:,} entries are cosigned, {behind:,} are not yet."
    answer(value, f"{table_text(['witness', 'asked at', 'cosigned'], rows)}\n{last}", as_json)


@witness_app.command("ask")
def witness_ask(
    tokens: TokensOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the newest head cosigned now; 1 where a witness knows another history, 3 short of a quorum.

    Example: decision-ledger witness ask
    """
    from ledger.log.witness_policy import policy_in_force
    from ledger.witnessing.asking import Asker, keep, read_witness_tokens, witnessed

    asker = Asker(tokens=read_witness_tokens(tokens))
    try:
        with open_ledger(ledger, vkey) as opened:
            policy = policy_in_force(opened.state, opened.store)
            if not policy.witnesses:
                raise UsageError("There is no witness to ask.", "Seal one with `witness add`.")
            known = witnessed(opened.store, policy)["size"]
            found = asker.ask_all(opened.sealed.note, opened.sealed.tree, policy, known)
        kept = keep(store_at(ledger), found, policy)
    finally:
        asker.close()
    enough = len(found.names) >= policy.quorum
    value: dict[str, Any] = {
        "size": found.checkpoint.size, "cosigned": found.names, "quorum": policy.quorum, "kept": kept,
        "failures": found.failures, "alarms": found.alarms,
    }  # fmt: skip
    lines = [f"{name}: {why}" for name, why in {**found.alarms, **found.failures}.items()]
    lines.append(
        f"{found.checkpoint.size:,} entries: {len(found.names)} of {len(policy.witnesses)} cosigned."
    )
    answer(value, "\n".join(lines), as_json)
    if found.alarms:
        raise typer.Exit(1)
    if not enough:
        raise typer.Exit(3)


def _seal(writer: Writer, policy: Policy, *, as_json: bool) -> None:
    from ledger.config_cli import seal_config
    from ledger.log.witness_policy import WITNESSES, as_rows

    seal_config(writer, WITNESSES, policy.json())
    value = {"quorum": policy.quorum, "witnesses": as_rows(policy), "head": writer.state.size}
    answer(value, f"{len(policy.witnesses)} witnesses, quorum {policy.quorum}.", as_json)
