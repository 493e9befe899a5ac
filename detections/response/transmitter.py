"""A transmitter of security events: signed tokens (RFC 8417, CAEP), pushed to their receiver (RFC 8935)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import httpx
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from detections.response.settings import ResponseSettings
from ledger.errors import OutsideError, UsageError
from ledger.settings.private_files import read_private_json, write_private

TIMEOUT_SECONDS: Final = 5.0
_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_EVENTS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "session": (_CAEP + "session-revoked", {}),
    "credential": (
        _CAEP + "credential-change",
        {"change_type": "revoke", "credential_type": "access-token"},
    ),
}
KINDS: Final = tuple(_EVENTS)
"""What may be taken back; never a principal."""


class Refused(Exception):
    """The receiver will not take this event, however often it comes."""


class Transmitter:
    """Pushes events of one issuer to one receiver."""

    def __init__(self, settings: ResponseSettings) -> None:
        self._settings = settings
        self._key = read_key(settings.key_file)
        # No redirects: a signed event goes where it was addressed to.
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    def push(self, target: str, alert_id: str, reason: str, now: float) -> None:
        """Ask for `target` to be taken back.

        Raises:
            OutsideError: it did not arrive; try again.
            Refused: the receiver understood it and refuses.
        """
        try:
            answer = self._client.post(
                self._settings.signals, content=self.token(target, alert_id, reason, now),
                headers={"Content-Type": "application/secevent+jwt", "Accept": "application/json"},
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise OutsideError(f"The receiver could not be reached: {type(error).__name__}.") from None
        if answer.status_code == httpx.codes.BAD_REQUEST:
            raise Refused(_why(answer))
        if not answer.is_success:
            raise OutsideError(f"The receiver answered {answer.status_code}.")

    def token(self, target: str, alert_id: str, reason: str, now: float) -> str:
        """The signed event. Its id comes from the target: several engines ask, and it counts once."""
        event, details = _EVENTS[target.partition(":")[0]]
        issuer = self._settings.issuer
        claims = {
            "iss": issuer, "iat": int(now), "aud": self._settings.audience,
            "jti": hashlib.sha256(f"{issuer} {target}".encode()).hexdigest()[:32],
            "sub_id": {"format": "opaque", "id": target},
            "events": {
                event: {
                    "event_timestamp": int(now), "initiating_entity": "policy", "alert_id": alert_id,
                    "reason_admin": {"en": reason}, **details,
                }
            },
        }  # fmt: skip
        header = {"alg": "Ed25519", "typ": "secevent+jwt", "kid": self._key.kid}
        return jws.serialize_compact(header, json.dumps(claims), self._key, algorithms=["Ed25519"])

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def read_key(path: Path) -> OKPKey:
    """The private key in a file: an Ed25519 JWK.

    Raises:
        UsageError: there is none, or others may read it.
    """
    try:
        members = read_private_json(path)
        if members.get("crv") != "Ed25519" or not isinstance(members.get("d"), str):
            raise ValueError("another kind of key")
        key = OKPKey.import_key(members)
    except OSError as error:
        raise UsageError(
            f"The key {path} cannot be read: {error.strerror}.", "Make it with `detect response`."
        ) from None
    except (ValueError, AttributeError, JoseError):
        raise UsageError(
            f"{path} is no private Ed25519 key.", "Name a JWK as `detect response` makes it."
        ) from None
    return _named(key)


def make_key(path: Path) -> OKPKey:
    """A new key in a file that only its owner may read; never over another."""
    key = _named(OKPKey.generate_key("Ed25519"))
    try:
        write_private(path, json.dumps(key.as_dict(private=True)))
    except OSError as error:
        raise UsageError(f"The key {path} cannot be made: {error.strerror}.", "Name another place.") from None
    return key


def public_part(key: OKPKey) -> dict[str, Any]:
    """The JWK that a receiver lists."""
    return {
        name: one for name, one in key.as_dict(private=False).items() if name in ("kty", "crv", "x", "kid")
    }


def _named(key: OKPKey) -> OKPKey:
    members = {
        name: one for name, one in key.as_dict(private=True).items() if name in ("kty", "crv", "x", "d")
    }
    return OKPKey.import_key({**members, "kid": key.thumbprint()})


def _why(answer: httpx.Response) -> str:
    try:
        value = answer.json()
        return f"{value['err']}: {value['description']}"[:300]
    except (ValueError, KeyError, TypeError):
        return "the receiver gave no reason"
