r"""Text for a terminal: what senders wrote moves no cursor and hides nothing.

A sealed denial must not be shown as an allow because a reason holds an escape sequence, a line feed or a
direction mark. Characters that are not seen as themselves are written as `\u{1b}`; in JSON, which has an
escape of its own, as `\u001b`, so that a machine reads the same text.
"""

from __future__ import annotations

import re
from typing import Final

_ODD: Final = re.compile("[^\x20-\x7e]")
"""Where to look closer."""
_SURROGATE_PAIRS_FROM: Final = 0x1_0000


def plain(text: str) -> str:
    """`text` on one line, every character that is not printable spelled out."""
    return text if text.isprintable() else _ODD.sub(_spelled, text)


def plain_lines(text: str) -> str:
    """As `plain`, but line feeds stand: for text whose lines are ours."""
    return "\n".join(plain(line) for line in text.split("\n"))


def plain_json(text: str) -> str:
    """The same JSON value with every character that is not printable as JSON's own escape.

    `text` is JSON; line feeds between its values stand.
    """
    return "\n".join(
        line if line.isprintable() else _ODD.sub(_json_spelled, line) for line in text.split("\n")
    )


def _spelled(match: re.Match[str]) -> str:
    letter = match[0]
    return letter if letter.isprintable() else f"\\u{{{ord(letter):x}}}"


def _json_spelled(match: re.Match[str]) -> str:
    letter = match[0]
    if letter.isprintable():
        return letter
    code = ord(letter)
    if code < _SURROGATE_PAIRS_FROM:
        return f"\\u{code:04x}"
    code -= _SURROGATE_PAIRS_FROM
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
