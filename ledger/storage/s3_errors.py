"""What the answers of an object store mean: whether a write can have happened, and what to do.

obstore has one class for most failures and puts the rest into its text, so the text is read here.
"""

from __future__ import annotations

import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from ledger.errors import OutcomeUnknown, OutsideError

_STATUS = re.compile(r"status code: (\d{3})")
_NEVER_SENT = ("kind: Connect,", "source: BadScheme", "Missing AccessKeyId", "Missing SecretAccessKey")
_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or correct the bucket's policy."
_REACH = "Check the network, AWS_ENDPOINT_URL and the service; then start again."


def is_missing_bucket(error: Exception) -> bool:
    """A missing bucket and a missing object are both `FileNotFoundError`; only one is an answer."""
    return "<Code>NoSuchBucket</Code>" in str(error)


def read_failure(action: str, path: str, url: str, error: Exception) -> OutsideError:
    """The error for a failed request that changes nothing when repeated."""
    reason, remedy = _meaning(error)
    return OutsideError(f"Cannot {action} {path} in {url}: {reason}.", remedy)


def write_failure(action: str, path: str, url: str, error: Exception) -> OutsideError:
    """`OutsideError` where the write cannot have happened, `OutcomeUnknown` in every other case."""
    reason, remedy = _meaning(error)
    if _cannot_have_happened(error):
        return OutsideError(f"Cannot {action} {path} in {url}: {reason}.", remedy)
    return OutcomeUnknown(f"Whether {path} was written in {url} is unknown: {reason}.", remedy)


def _cannot_have_happened(error: Exception) -> bool:
    text = str(error)
    status = _status(text)
    if status is not None:
        # 408 comes from proxies too, after the request may have gone through.
        return 400 <= status < 500 and status != 408
    return any(mark in text for mark in _NEVER_SENT)


def _meaning(error: Exception) -> tuple[str, str]:
    """The end of a sentence, and the remedy. Nothing of the service's text is repeated."""
    text = str(error)
    status = _status(text)
    if is_missing_bucket(error):
        return "the bucket does not exist", "Create the bucket, or correct the address."
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in (401, 403):
        return "access is denied", _CREDENTIALS
    if "Missing AccessKeyId" in text or "Missing SecretAccessKey" in text:
        return "there are no credentials", _CREDENTIALS
    if status in (429, 503):
        return f"the service is overloaded (HTTP {status})", "Wait and try again, or write less often."
    if status in (405, 501):
        return (
            f"the service does not support the request (HTTP {status})",
            "Use a service that honours If-None-Match and If-Match on PUT.",
        )
    if status is not None:
        return f"the service answered HTTP {status}", "Look at the service's log; try again when it is well."
    if "kind: Timeout" in text:
        return "no answer came in time", _REACH
    if "kind: Connect," in text:
        return "the service cannot be reached", _REACH
    return "the connection failed or the answer was unreadable", _REACH


def _status(text: str) -> int | None:
    found = _STATUS.search(text)
    return int(found[1]) if found else None
