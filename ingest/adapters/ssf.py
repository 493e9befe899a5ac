"""Security event tokens of Shared Signals transmitters (RFC 8417; CAEP and RISC), one or several a message.

A message is a token as text, or the answer to a poll (RFC 8936); of one that is pushed (RFC 8935) the intake
keeps what it opened and checked, since a token must not come to rest. Only a token whose signature fits a key
of its issuer's is read; which issuers and keys, the intake says. `raw` holds header and claims without the
signature, since whoever has a whole token can deliver it elsewhere, and `set_sha256` the token's digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import rfc8785
from joserfc import jws
from joserfc.errors import JoseError

from ingest import rows, strictjson
from ingest.adapters.json_values import as_text
from ingest.adapters.mapping import read_options
from ingest.adapters.native import Collected, merged, read_message
from ingest.adapters.objects import ForeignObject
from ingest.adapters.security_events import events_of
from ingest.adapters.ssf_options import ALGORITHMS, SsfOptions, Transmitter
from ingest.decoded import Decoded, Limits

FIELD_MAP: Final = (
    ("/claims/jti", "event_id"),
    ("/claims/iss", "source"),
    ("/claims/iat", "time"),
    ("/claims/events/*/event_timestamp", "time"),
    ("/claims/txn", "request_id"),
    ("/claims/events/*", "kind"),
    ("/claims/events/*", "reason"),
    ("/claims/sub_id", "target"),
    ("/claims/sub_id/tenant", "tenant"),
    ("/claims/events/*", "attributes"),
    ("/claims/sub_id", "attributes"),
)
"""Where in a token each field is read from, in the form that `raw` has."""
GRADE: Final = 0
"""A signal is no decision."""
_NAME: Final = "ssf"
_TYPE: Final = "secevent+jwt"
MAX_TOKEN_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class _Token:
    """A token whose signature fits."""

    header: dict[str, Any]
    claims: dict[str, Any]
    digest: str


class TokenRefused(rows.Refused):
    """A token that is not taken. `code` is what RFC 8935, section 2.4, calls it."""

    def __init__(self, code: str, reason: str, field: str | None = None) -> None:
        super().__init__(reason, field)
        self.code = code


class SsfAdapter:
    """Keeps `ingest.decoded.Adapter`. `opened`: messages are what `open_token` gave, and nothing else."""

    name = _NAME

    def __init__(self, options: SsfOptions, *, opened: bool = False) -> None:
        self._options = options
        self._opened = opened

    @property
    def of_opened(self) -> SsfAdapter:
        """The same, for messages that `open_token` gave."""
        return SsfAdapter(self._options, opened=True)

    def open_token(self, message: bytes) -> bytes:
        """What may be kept of a pushed token: JSON of its header, claims and digest, without the signature.

        Raises:
            TokenRefused: it is no token, of nobody we know, for somebody else, or not signed as it is.
        """
        try:
            text = message.strip().decode("ascii")
        except UnicodeDecodeError:
            raise TokenRefused("invalid_request", "no token: three parts expected") from None
        token = self._verified(text)
        try:
            return strictjson.canonical(
                {"header": token.header, "claims": token.claims, "set_sha256": token.digest}
            )
        except (rfc8785.CanonicalizationError, ValueError):
            raise TokenRefused("invalid_request", "a token that states no JSON") from None

    def decode(self, values: pa.LargeBinaryArray, limits: Limits, now: datetime) -> Decoded:
        """Events of `values`; see `Adapter.decode`."""
        made = Collected()
        for position, message in enumerate(values.to_pylist()):
            try:
                taken = list(self._rows(message, limits, now))
            except rows.Refused as error:
                made.reject(position, error.reason, field=error.field)
                continue
            made.take(position, taken)
        return merged(None, np.zeros(0, np.int64), made)

    def _rows(self, message: bytes, limits: Limits, now: datetime) -> Iterator[rows.Row]:
        part = 0
        for token in self._tokens(message, limits):
            opened = {"header": token.header, "claims": token.claims}
            one = ForeignObject(opened, limits, now, part)
            clean, places = one.masked(opened)
            for event in events_of(clean["claims"]):
                event["source"] = f"{_NAME}/{clean['claims'].get('iss')}"
                event.update(self._options.filled(clean))
                attributes = {**event.pop("attributes"), "set_sha256": token.digest}
                yield one.row(event, attributes, clean, places)
            part = one.next_part

    def _tokens(self, message: bytes, limits: Limits) -> Iterator[_Token]:
        if not self._opened:
            yield from map(self._verified, _tokens(message, limits))
            return
        (kept,), _ = read_message(message, limits)
        header, claims, digest = kept.get("header"), kept.get("claims"), as_text(kept.get("set_sha256"))
        if not isinstance(header, dict) or not isinstance(claims, dict) or digest is None:
            raise rows.Refused("no opened token")
        yield _Token(header, claims, digest)

    def _verified(self, text: str) -> _Token:
        """The parts of a token that one of its issuer's keys signed, and that is for us.

        Raises:
            rows.Refused: it is not; the reason holds no part of it.
        """
        if len(text) > MAX_TOKEN_BYTES:
            raise TokenRefused("invalid_request", f"a token of more than {MAX_TOKEN_BYTES} bytes")
        pieces = text.split(".")
        if not text.isascii() or len(pieces) != 3 or not all(pieces):
            raise TokenRefused("invalid_request", "no token: three parts expected")
        header, claims = _opened(pieces[0]), _opened(pieces[1])
        if (as_text(header.get("typ")) or "").lower().removeprefix("application/") != _TYPE:
            raise TokenRefused("invalid_request", f"the token's typ is not {_TYPE}")
        transmitter = self._options.transmitter(as_text(claims.get("iss")))
        if transmitter is None:
            raise TokenRefused("invalid_issuer", "a token of no transmitter that this intake knows", "source")
        _check_signature(text, header, transmitter)
        audience = claims.get("aud")
        told = audience if isinstance(audience, list) else [audience]
        if transmitter.audience is not None and transmitter.audience not in told:
            raise TokenRefused("invalid_audience", "a token for another receiver")
        return _Token(header, claims, hashlib.sha256(text.encode()).hexdigest())


def _tokens(message: bytes, limits: Limits) -> list[str]:
    """The tokens of a message: it is one, or the answer to a poll, whose `sets` are tokens by their `jti`."""
    if len(message) > limits.message_bytes:
        raise rows.Refused(f"longer than {limits.message_bytes} bytes")
    if not message.lstrip().startswith(b"{"):
        try:
            return [message.strip().decode("ascii")]
        except UnicodeDecodeError:
            raise rows.Refused("no token: three parts expected") from None
    (answer,), _ = read_message(message, limits)
    sets = answer.get("sets")
    if not isinstance(sets, dict) or not all(isinstance(one, str) for one in sets.values()):
        raise rows.Refused("no token, and no answer to a poll")
    if len(sets) > limits.events_per_message:
        raise rows.Refused(f"more than {limits.events_per_message} events in one message")
    return [sets[name] for name in sorted(sets)]


def _opened(piece: str) -> dict[str, Any]:
    try:
        data = base64.b64decode(piece + "=" * (-len(piece) % 4), altchars=b"-_", validate=True)
        found = strictjson.loads(data)
    except (binascii.Error, ValueError, strictjson.Unreadable):
        raise TokenRefused("invalid_request", "a token whose parts are no JSON") from None
    if not isinstance(found, dict):
        raise TokenRefused("invalid_request", "a token whose parts are no objects")
    return found


def _check_signature(text: str, header: Mapping[str, Any], transmitter: Transmitter) -> None:
    """Nothing where a key of the transmitter signed it.

    Raises:
        rows.Refused: none did.
    """
    algorithm, kid = as_text(header.get("alg")), as_text(header.get("kid"))
    if algorithm not in ALGORITHMS:
        raise TokenRefused("invalid_key", f"a token whose alg is none of {', '.join(ALGORITHMS)}")
    # Nobody but us says what is critical; `crit` would name what we do not read.
    if "crit" in header or "b64" in header:
        raise TokenRefused("invalid_key", "a token with header members that are not read here")
    keys = transmitter.keys_for(kid, algorithm)
    if not keys:
        raise TokenRefused("invalid_key", "a token that names no key of its transmitter")
    for key in keys:
        try:
            jws.deserialize_compact(text, key, algorithms=[algorithm])
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        return
    raise TokenRefused("invalid_key", "a token whose signature does not fit")


def from_options(options: Mapping[str, Any]) -> SsfAdapter:
    """The adapter; without transmitters it refuses every token.

    Raises:
        UsageError: an option is unknown or unusable.
    """
    return SsfAdapter(read_options(SsfOptions, _NAME, options))
