"""Secrets never reach the disk: what is masked, by key name and by the look of the value.

Bearer and basic credentials, JWTs, cloud session tokens, passwords, private keys and the values of
`Authorization` and `Cookie` headers are replaced by `[masked]`; the places are JSON pointers
(RFC 6901). Ids are kept: `credential_id` names a credential and opens nothing.

`TRIGGER` matches the JSON text of every value that `mask_value` would change (it also matches
harmless ones): what it does not match needs no second look.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from functools import lru_cache
from typing import Any, Final

import rfc8785

from ingest import strictjson

MASK: Final = "[masked]"
SHORTEST_CHARS: Final = 5
"""`pwd=x`: no shorter text holds a secret and says so."""
MAX_NESTED_JSON: Final = 4
"""Texts that hold JSON whose texts hold JSON...: deeper ones are masked as text only."""

_SECRET_KEY: Final = re.compile(
    r"(?:password|passwd|passwort|passphrase|secret|secrets|token|apikey|privatekey|secretkey|accesskey"
    r"|signingkey|encryptionkey|sharedkey|authorization|cookie|clientassertion|samlresponse|jwt|jws|pwd"
    r"|credentialsecret|connectionstring)$"
)
"""On the key in lower case without punctuation. `..._id`, `..._type`, `..._count` end differently."""
_HARMLESS_KEY: Final = re.compile(r"(?:page|next|continuation|continue|cursor)token$")
_HEADER_LIST: Final = re.compile(r"header", re.IGNORECASE)
_DESCRIBES: Final = re.compile(
    r"(?:^|[a-z0-9_.-])(?:I[dD]s?|ids?|A[rR][nN]s?|arns?|[sS]tatus|[sS]tate|[tT]ype|[vV]ersion|[dD]ate|[uU]ser_?[nN]ame"
    r"|[eE]xpir(?:y|es|ation)|_at|At)$"
    r"|^(?:id|arn|status|state|type|version|date|iss|aud|exp|iat|nbf|jti)$"
)
"""Names of what describes a secret and does not open it, where it stands under the secret's name."""
_PUNCTUATION: Final = re.compile(r"[^a-z0-9]+")

_KEY_WORDS: Final = (
    r"passw(?:or)?(?:d|t)|passphrase|pwd|secrets?|token|api[_-]?key|private[_-]?key|access[_-]?key"
    r"|(?:signing|encryption|shared)[_-]?key|authorization|cookie|client[_-]?assertion|saml[_-]?response"
    r"|connection[_-]?string|jwt|jws"
)
_PAIR: Final = re.compile(
    # A key word, its closing quote, a separator; no prefix, since `[\w.-]*` before it is quadratic.
    rf"(?P<key>(?:{_KEY_WORDS})(?:\\*[\"'])?\s*(?::|=>?)\s*)"
    r"(?P<value>(?P<quote>\")(?:[^\"\\]|\\.)*(?:\"|\Z|\\\Z)"
    r"|(?P<deep>\\+\")(?:(?!(?<!\\)(?P=deep)).)*(?:(?P=deep)|\Z)"
    r"|(?P<single>\\*')(?:(?!(?P=single)).)*(?:(?P=single)|\Z)"
    r"|\[(?!masked\])[^\]]*(?:\]|\Z)|\{[^}]*(?:\}|\Z)"
    r"|(?:(?:bearer|basic|digest|negotiate|dpop)\s+)?[^\s,;&\"'\\}\])]+)",
    re.DOTALL | re.IGNORECASE,
)
_HEADER_LINE: Final = re.compile(
    r"(?im)\b(?P<key>(?:proxy-)?authorization|(?:set-)?cookie)(?P<sep>\s*:\s*)(?P<value>[^\r\n\"]+)"
)
_SCHEME: Final = re.compile(r"(?i)\b(bearer|dpop|negotiate)(\s+|%20|\+)(?!\[masked\])[A-Za-z0-9._~+/=-]{6,}")
_BASIC: Final = re.compile(r"(?i)\bbasic(\s+|%20|\+)([A-Za-z0-9+/_-]{4,}={0,2})")
_JWT: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){1,4}|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}={0,2}"
)
_KNOWN: Final = re.compile(
    r"(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[A-Za-z0-9+/=_-]{8,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bxox[abeoprs]-[\w-]{10,}"
    r"|\bhv[sbr]\.[\w-]{16,}|\bya29\.[\w-]{16,}|\bAIza[\w-]{30,}|\bsk-[\w-]{20,}|\bsk_live_\w{16,}"
)
_TYPE_AND_ID: Final = re.compile(
    r"(?:(?i:passw\w*|passphrase|pwd):[A-Za-z*]+|(?!(?i:passw|passphrase|pwd))[\w.@*/-]+(?::[\w.@*/+-]+)+)"
)
"""`secret:billing-db`, `token:issue`: a principal, resource or scope, though it begins like a secret."""
_SECRET_ARN: Final = re.compile(r"arn:[a-z-]{1,20}:secretsmanager:[a-z0-9-]{1,30}:[0-9]{1,20}:\Z")
"""What `secret:` names after it is a secret's name, and opens nothing."""
_TAKE_PASSWORD: Final = ("mysql", "mysqldump", "mysqladmin", "mariadb")
"""Programs that take a password behind `-p`."""
_USER_OPTIONS: Final = ("-u", "--user", "-U", "--proxy-user")
"""Where curl takes `user:password`."""
_SESSION_COOKIE: Final = re.compile(
    r"(?i)(?P<key>sess(?:ion)?id|\bconnect\.sid)(?P<sep> ?= ?)(?!\[masked\])[^\s;,&\"'\\]+"
)
"""`PHPSESSID=…`, `JSESSIONID=…`, `sessionid=…`; `session_id` names a session and opens nothing."""
_USER_OPTION: Final = re.compile(
    rf"(?i)(?P<before>\bcurl\b[^\r\n|;]{{0,200}}?\s(?:{'|'.join(_USER_OPTIONS)})[ =]?"
    r"(?P<quote>\\?[\"'])?[^\s:\"'\\]{1,100}:)(?!\[masked\])(?(quote)[^\"'\\\r\n]+|[^\s\"'\\]+)"
)
_PASSWORD_OPTION: Final = re.compile(
    rf"(?P<before>\b(?:{'|'.join(_TAKE_PASSWORD)})\b[^\r\n|;]{{0,200}}?\s-p(?P<quote>\\?[\"'])?)"
    r"(?!\[masked\])(?(quote)[^\"'\\\r\n]+|[^\s\"'\\]+)"
)
_USERINFO: Final = re.compile(r"(://[^\s/?#:@\"]*):([^\s/?#@\"]+)@")
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)

TRIGGER: Final = (
    r"(?i)passw|passphrase|pwd|secret|token|api[_-]?key|private[_ -]?key|access[_-]?key|signing[_-]?key"
    r"|encryption[_-]?key|shared[_-]?key|authorization|cookie|assertion|saml|connection[_-]?string|jwt|jws"
    r"|bearer|dpop|negotiate|basic(?:\s|%20|\+|\\)|eyj|FwoGZXIvYXdz|IQoJb3JpZ2lu|gh[pousr]_|github_pat"
    r"|glpat-|xox[a-z]-|hv[sbr]\.|ya29\.|aiza|(?:^|[^a-z])sk[-_]|://[^\"/]*@|\\u|\\/"
    r"|curl|mysql|mariadb|sess(?:ion)?id ?=|connect\.sid"
)
"""In the syntax that Python and the Rust `regex` crate share; on the JSON text of a message."""


@lru_cache(maxsize=65_536)
def secret_key(name: str) -> bool:
    """Whether a value under this key or header name is a secret whatever it looks like."""
    plain = _PUNCTUATION.sub("", name.lower())
    return _SECRET_KEY.search(plain) is not None and _HARMLESS_KEY.search(plain) is None


def _pair(match: re.Match[str]) -> str:
    if match["key"].lower() == "secret:" and _SECRET_ARN.search(match.string, 0, match.start()):
        return match[0]
    value, quote = match["value"], match["quote"] or match["deep"] or match["single"] or ""
    bare = value.strip("\\\"'")
    if bare in ("", MASK, "null", "true", "false") or match.string.startswith(MASK, match.start("value")):
        return match[0]
    return f"{match['key']}{quote}{MASK}{quote}"


def _basic(match: re.Match[str]) -> str:
    text = match[2].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        opened = base64.b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return match[0]
    return f"Basic {MASK}" if b":" in opened else match[0]


_HINTS: Final = (
    "passw", "passphrase", "pwd", "secret", "token", "key", "authorization", "cookie", "assertion", "saml",
    "connection", "jwt", "jws", "bearer", "dpop", "negotiate", "basic", "eyj", "fwogz", "iqojb", "gh",
    "glpat", "xox", "hv", "ya29", "aiza", "sk", "://", "curl", "mysql", "mariadb", "sessid", "sessionid",
    "connect.sid",
)  # fmt: skip
"""Every pattern needs one of these in lower case; most texts have none."""


def _as_text(text: str) -> str:
    if len(text) < SHORTEST_CHARS:
        return text
    lower = text.lower()
    for hint in _HINTS:
        if hint in lower:
            return _by_patterns(text)
    return text


def _by_patterns(text: str) -> str:
    text = _PEM.sub(MASK, text)
    text = _USERINFO.sub(rf"\1:{MASK}@", text)
    text = _SCHEME.sub(rf"\1 {MASK}", text)
    text = _BASIC.sub(_basic, text)
    text = _JWT.sub(MASK, text)
    text = _KNOWN.sub(MASK, text)
    if _TYPE_AND_ID.fullmatch(text) is not None:
        return text
    text = _SESSION_COOKIE.sub(rf"\g<key>\g<sep>{MASK}", text)
    text = _USER_OPTION.sub(rf"\g<before>{MASK}", text)
    text = _PASSWORD_OPTION.sub(rf"\g<before>{MASK}", text)
    text = _HEADER_LINE.sub(rf"\g<key>\g<sep>{MASK}", text)
    return _PAIR.sub(_pair, text)


def mask_text(text: str) -> str:
    """`text` without the secrets in it. A text that holds JSON is masked by its structure."""
    return _mask_text(text, MAX_NESTED_JSON)


def _mask_text(text: str, nested: int) -> str:
    if nested and text[:1] in '{[ \t\r\n"' and text.lstrip()[:1] in ("{", "[", '"'):
        try:
            content = strictjson.loads_text(text)
        except strictjson.Unreadable:
            return _as_text(text)
        places: list[str] = []
        clean = _mask(content, "", places, nested - 1, in_headers=False)
        if places:
            return json.dumps(clean, ensure_ascii=False, separators=(",", ":"))
        return text
    return _as_text(text)


def mask_value(value: Any) -> tuple[Any, list[str]]:
    """A JSON value without its secrets, and the JSON pointers of the places that were changed.

    `value` itself is left as it is; parts without secrets are shared with the result.
    """
    places: list[str] = []
    return _mask(value, "", places, MAX_NESTED_JSON, in_headers=False), places


def _mask(value: Any, place: str, places: list[str], nested: int, *, in_headers: bool) -> Any:
    if isinstance(value, str):
        clean = _mask_text(value, nested)
        if clean != value:
            places.append(place)
        return clean
    if isinstance(value, dict):
        return _mask_object(value, place, places, nested)
    if isinstance(value, list):
        return _mask_list(value, place, places, nested, in_headers=in_headers)
    return value


def _blank(value: Any) -> bool:
    return value is None or isinstance(value, bool) or value in ("", [], {}, MASK)


def _named_secret(value: dict[str, Any]) -> bool:
    """`{"name": "Authorization", "value": ...}`, as HAR files and several proxies write headers."""
    name = value.get("name", value.get("key", value.get("Name", value.get("Key"))))
    return isinstance(name, str) and secret_key(name)


@lru_cache(maxsize=65_536)
def _mask_key(key: str) -> str:
    return _as_text(key)


def _free_key(key: str, taken: dict[str, Any]) -> str:
    """The key without a secret in it, told apart from those that it would then be equal to."""
    kept = _mask_key(key)
    while kept in taken:
        kept += "'"
    return kept


def _mask_object(value: dict[str, Any], place: str, places: list[str], nested: int) -> dict[str, Any]:
    named = _named_secret(value)
    clean: dict[str, Any] = {}
    for key, child in value.items():
        kept = _free_key(key, clean)
        at = f"{place}/{strictjson.pointer_token(kept)}"
        if (secret_key(key) or (named and key.lower() in ("value", "values"))) and not _blank(child):
            clean[kept] = _mask_secret(child, at, places, nested)
            continue
        if kept != key:
            places.append(at)
        clean[kept] = _mask(child, at, places, nested, in_headers=_HEADER_LIST.search(key) is not None)
    return clean


def _mask_secret(value: Any, place: str, places: list[str], nested: int) -> Any:
    """What stands under a secret's name: a text goes, of an object what does not merely describe it.

    `accessKey: {accessKeyId, secretAccessKey, status}` names a credential, and opens nothing without the one
    member that is masked.
    """
    if isinstance(value, dict):
        clean: dict[str, Any] = {}
        for key, child in value.items():
            kept = _free_key(key, clean)
            at = f"{place}/{strictjson.pointer_token(kept)}"
            if isinstance(child, dict | list):
                clean[kept] = _mask_secret(child, at, places, nested)
            elif _DESCRIBES.search(key) is not None and not secret_key(key):
                clean[kept] = _mask(child, at, places, nested, in_headers=False)
            elif _blank(child):
                clean[kept] = child
            else:
                clean[kept] = MASK
                places.append(at)
        return clean
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        return [_mask_secret(one, f"{place}/{n}", places, nested) for n, one in enumerate(value)]
    if _blank(value):
        return value
    places.append(place)
    return MASK


def _mask_list(
    value: list[Any], place: str, places: list[str], nested: int, *, in_headers: bool
) -> list[Any]:
    """Headers also come as pairs in a list of lists, or as names and values by turns."""
    program = value[0].rpartition("/")[2] if value and isinstance(value[0], str) else ""
    pairs = in_headers and len(value) % 2 == 0 and all(isinstance(item, str) for item in value)
    clean: list[Any] = []
    for position, child in enumerate(value):
        at = f"{place}/{position}"
        if isinstance(child, list) and len(child) >= 2 and isinstance(child[0], str) and secret_key(child[0]):
            clean.append([child[0], *[MASK] * (len(child) - 1)])
            places.extend(f"{at}/{n}" for n in range(1, len(child)))
        elif pairs and position % 2 and secret_key(value[position - 1]):
            clean.append(MASK)
            places.append(at)
        elif isinstance(child, str) and (shown := _argument(program, value, position)) != child:
            clean.append(shown)
            places.append(at)
        else:
            clean.append(_mask(child, at, places, nested, in_headers=in_headers))
    return clean


def _argument(program: str, value: list[Any], position: int) -> str:
    """An argument of a command line that is given as a list, without the password in it."""
    argument: str = value[position]
    if program == "curl" and position and value[position - 1] in _USER_OPTIONS:
        user, colon, password = argument.partition(":")
        return f"{user}:{MASK}" if colon and password not in ("", MASK) else argument
    if program in _TAKE_PASSWORD and argument.startswith("-p") and argument[2:] not in ("", MASK):
        return f"-p{MASK}"
    return argument


_ESCAPED: Final = re.compile(r"\\u([0-9a-fA-F]{4})")


def mask_payload(payload: bytes) -> bytes | None:
    """What a dead letter may hold of a message: by structure where it is JSON, else by its text.

    None where masking failed: the dead letter then holds only its place and digest.
    """
    try:
        return _mask_payload(payload)
    except Exception:  # noqa: BLE001 - whatever goes wrong here must not let the payload through
        return None


def _mask_payload(payload: bytes) -> bytes:
    try:
        value = strictjson.loads(payload)
    except strictjson.Unreadable:
        return _mask_unreadable(payload)
    clean, places = mask_value(value)
    if not places:
        return payload
    try:
        return rfc8785.dumps(clean)
    except (rfc8785.CanonicalizationError, ValueError):
        return json.dumps(clean, ensure_ascii=False, separators=(",", ":")).encode()


def _mask_unreadable(payload: bytes) -> bytes:
    # Latin-1 keeps bytes that are no UTF-8 as they came.
    text = payload.decode("latin-1")
    clean = _as_text(text)
    opened = _ESCAPED.sub(lambda m: chr(int(m[1], 16)) if int(m[1], 16) < 256 else m[0], clean)
    opened = opened.replace("\\/", "/")
    if opened != clean:
        masked = _as_text(opened)
        # Only a text that hides something is changed: escapes carry meaning in what we keep.
        if masked != opened:
            return masked.encode("latin-1", "replace")
    return clean.encode("latin-1")
