"""Sign-in by OpenID Connect: who somebody is, for how long, and what their claims let them see.

One TOML file says it: `[auth]` is streamlit's own section (client, provider, cookie secret), `[access]` ours.

    [access]
    roles_claim = "roles"       # a claim with one word or a list of them
    tenants_claim = "tenant"    # likewise; "*" is all tenants
    [access.roles]              # a word of the provider = a role of the dashboard
    operator = "admin"

A word that is not listed grants nothing. Without a tenants claim nobody sees anything.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dashboard.access import ALL_TENANTS, ROLES, Forbidden, Viewer
from dashboard.serving import is_loopback
from ledger.errors import LedgerError, UsageError
from ledger.settings.private_files import check_private

SESSION_SECONDS: Final = 8 * 3_600
"""However long the provider's own word lasts."""
CALLBACK: Final = "/oauth2callback"
MIN_SECRET: Final = 32
MAX_WORDS: Final = 100
_NEEDED: Final = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")


class SignedOut(LedgerError):
    """Nobody is signed in, or no longer."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a sign-in grants, and where it comes back to."""

    redirect_uri: str
    roles_claim: str
    tenants_claim: str
    roles: Mapping[str, str]

    @property
    def host(self) -> str:
        """By which name people reach the dashboard."""
        return urlsplit(self.redirect_uri).hostname or ""


def read_sign_in(path: Path) -> SignIn:
    """The sign-in of a file. Raises UsageError with what to correct."""
    try:
        check_private(path, f"{path}, which holds secrets")
        value = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"The sign-in in {path} cannot be read.", "Correct --sign-in.") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}.", "Correct that line.") from None
    auth, access = value.get("auth", {}), value.get("access", {})
    for name in _NEEDED:
        if not isinstance(auth.get(name), str) or not auth[name]:
            raise UsageError(f"{path} has no [auth] {name}.", "docs/guide/sign-in.md shows a whole file.")
    if len(auth["cookie_secret"]) < MIN_SECRET:
        raise UsageError(
            f"{path}: cookie_secret has less than {MIN_SECRET} letters.",
            "Take what `openssl rand -hex 32` gives.",
        )
    for name in ("redirect_uri", "server_metadata_url"):
        _check_url(path, name, auth[name])
    if urlsplit(auth["redirect_uri"]).path != CALLBACK:
        raise UsageError(
            f"{path}: redirect_uri does not end in {CALLBACK}.", f"Write it as https://HOST{CALLBACK}."
        )
    roles = access.get("roles", {})
    unknown = sorted(set(map(str, roles.values())) - ROLES.keys()) if isinstance(roles, dict) else ["roles"]
    if unknown or not roles:
        said = (
            f"grants the role {unknown[0]!r}, which there is not" if unknown else "grants no role to anybody"
        )
        raise UsageError(f"{path} {said}.", f"In [access.roles] use {', '.join(ROLES)}.")
    claims = [access.get("roles_claim", "roles"), access.get("tenants_claim", "tenants")]
    if not all(isinstance(claim, str) and claim for claim in claims):
        raise UsageError(f"{path}: a claim in [access] is no name.", 'Write roles_claim = "roles".')
    return SignIn(auth["redirect_uri"], claims[0], claims[1], dict(roles))


def viewer_of(claims: Mapping[str, Any], sign_in: SignIn, now: float) -> Viewer:
    """Who is signed in by these claims of a checked identity token.

    Raises:
        SignedOut: the token has expired, or was given more than eight hours ago.
        Forbidden: the claims grant no role, or no tenant.
    """
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    if issued is None or expires is None or issued > now + 60:
        raise SignedOut("The sign-in says not how long it holds.", "Sign in again.")
    if now >= min(expires, issued + SESSION_SECONDS):
        raise SignedOut("The sign-in has ended.", "Sign in again.")
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not isinstance(issuer, str) or not isinstance(subject, str) or not issuer or not subject:
        raise SignedOut("The sign-in names nobody.", "Sign in again.")
    roles = frozenset(
        sign_in.roles[word] for word in _words(claims.get(sign_in.roles_claim)) if word in sign_in.roles
    )
    if not roles:
        raise Forbidden(
            "Your sign-in grants no role here.", f"Ask for one: the claim {sign_in.roles_claim!r} names it."
        )
    tenants = frozenset(_words(claims.get(sign_in.tenants_claim)))
    if not tenants:
        raise Forbidden(
            "Your sign-in names no tenant.", f"Ask for one: the claim {sign_in.tenants_claim!r} names it."
        )
    return Viewer(f"{issuer}#{subject}", roles, None if ALL_TENANTS in tenants else tenants)


def fingerprint(claims: Mapping[str, Any]) -> str:
    """What one sign-in is known by when it is over."""
    told = "\n".join(str(claims.get(name)) for name in ("iss", "sub", "iat", "auth_time", "at_hash", "nonce"))
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()


@dataclass(slots=True)
class EndedSignIns:
    """Sign-ins that were ended before their time: streamlit's cookie lives on in other tabs."""

    path: Path
    _seen: tuple[int, int] = (0, 0)
    _ended: frozenset[str] = field(default_factory=frozenset)

    def add(self, sign_in: str) -> None:
        """End one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Appended in one write, so that several workers share the file.
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(f"{sign_in}\n")

    def __contains__(self, sign_in: str) -> bool:
        try:
            told = self.path.stat()
        except OSError:
            return False
        seen = (told.st_mtime_ns, told.st_size)
        if seen != self._seen:
            self._ended, self._seen = frozenset(self.path.read_text("ascii").split()), seen
        return sign_in in self._ended


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return [word for word in value[:MAX_WORDS] if isinstance(word, str) and word]
    return []


def _time(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check_url(path: Path, name: str, url: str) -> None:
    parts = urlsplit(url)
    if not (
        parts.hostname
        and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)))
    ):
        raise UsageError(f"{path}: {name} is no https:// address.", "Only on this machine http:// is enough.")
