"""`python -m tests.broker up|down`: a broker for benchmarks, that stays until `down`.

`up` prints the address on standard output and the broker's kind on standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.broker import jars, run

FOLDER = jars.CACHE / "standalone"


def main(arguments: list[str]) -> int:
    """Exit code 0 done, 2 wrong usage, 3 no broker can be had."""
    match arguments:
        case ["up"]:
            if (FOLDER / "broker.json").exists() and not (FOLDER / "keeper.pid").exists():
                run.end(FOLDER)
            FOLDER.mkdir(parents=True, exist_ok=True)
            answer = run.ask(FOLDER, 0)
            if "unavailable" in answer:
                run.end(FOLDER)
                print(f"no broker: {answer['unavailable']}", file=sys.stderr)
                return 3
            print(answer["label"], file=sys.stderr)
            print(answer["bootstrap"])
            return 0
        case ["down"]:
            run.end(FOLDER)
            return 0
        case ["keep", folder, owner]:
            run.keep(Path(folder), int(owner))
            return 0
        case _:
            print("usage: python -m tests.broker up|down", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
