"""Time stamps of heads by an authority that others trust (RFC 3161), asked over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import httpx
from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from ledger.errors import DamageError, OutsideError, UsageError
from ledger.storage.s3_address import is_loopback_http

QUERY: Final = "application/timestamp-query"
TIMEOUT_SECONDS: Final = 15.0
MAX_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Stamp:
    """When an authority saw some data, and whether its certificates were checked."""

    time: datetime
    trusted: bool


def ask(url: str, data: bytes) -> bytes:
    """The response that stamps `data`, as it is kept.

    Raises:
        UsageError: the address is not https, nor http on this machine.
        OutsideError: the authority does not answer, refuses, or stamps something else.
    """
    is_loopback_http(url)
    request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
    try:
        with (
            httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=request.as_bytes(), headers={"content-type": QUERY}) as answer,
        ):
            held = bytearray()
            for part in answer.iter_bytes():
                held += part
                if len(held) > MAX_BYTES:
                    raise OutsideError(f"{url} answers too much for a time stamp.")
            status = answer.status_code
    except httpx.HTTPError as error:
        raise OutsideError(f"{url} does not answer: {type(error).__name__}.") from None
    if status != 200:
        raise OutsideError(f"{url} answers HTTP {status}.")
    try:
        stamp(bytes(held), data)
    except DamageError as error:
        raise OutsideError(f"{url} gave no time stamp: {error.message}") from None
    return bytes(held)


def stamp(response: bytes, data: bytes, roots: Sequence[x509.Certificate] = ()) -> Stamp:
    """What a kept response says of `data`; checked up to `roots` where there are some.

    Raises:
        DamageError: it stamps something else, or no certificate of `roots` vouches for it.
    """
    try:
        found = decode_timestamp_response(response)
        imprint, when = found.tst_info.message_imprint.message, found.tst_info.gen_time
    except (ValueError, TypeError) as error:
        raise DamageError(f"It is no time stamp: {error}.") from None
    if imprint != hashlib.sha256(data).digest():
        raise DamageError("It stamps something else.")
    if roots:
        builder = VerifierBuilder()
        for root in roots:
            builder = builder.add_root_certificate(root)
        try:
            builder.build().verify_message(found, data)
        except VerificationError as error:
            raise DamageError(f"No authority of those that are trusted made it: {error}.") from None
    return Stamp(when, bool(roots))


def read_certificates(path: Path | None) -> list[x509.Certificate]:
    """The certificates of authorities in a PEM file; none where no file is named. Raises UsageError."""
    if path is None:
        return []
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise UsageError(f"{path} holds no certificates in PEM.", "Correct --authority.") from None
