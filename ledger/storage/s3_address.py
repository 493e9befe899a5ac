"""Where a bucket is: the `s3://` address and the endpoint, and which endpoints are safe to speak to."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from ledger.errors import UsageError
from ledger.storage.limits import checked_prefix


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """The parts of `s3://bucket/prefix`. Raises `UsageError` where it is not one."""
    parts = urlsplit(url)
    if "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError(
            f"The bucket of s3://{parts.netloc.rpartition('@')[2]} is malformed.",
            "Credentials and endpoints belong in the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL).",
        )
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{url!r} names no bucket.", "Write s3://bucket or s3://bucket/prefix.")
    return parts.netloc, "/".join(checked_prefix(parts.path.strip("/")))


def endpoint_of_environment() -> str | None:
    """The endpoint that the environment names; the S3-specific variable comes first."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def is_loopback_http(endpoint: str | None) -> bool:
    """Whether plain http is to be allowed. Raises `UsageError` for plain http to another machine."""
    if endpoint is None:
        return False
    parts = urlsplit(endpoint)
    if parts.scheme.lower() == "https":
        return False
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if parts.scheme.lower() != "http" or not loopback:
        raise UsageError(
            f"The storage endpoint {parts.scheme}://{host} is not encrypted or not a web address.",
            "Use https; plain http is accepted only on this machine (127.0.0.1, ::1, localhost).",
        )
    return True
