"""Requests that schemathesis makes up, as HTTP clients take them, and as many of them as a test tries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings


def few() -> settings:
    """A few examples of each request, the same each time; in the long form of the tests many, and others."""
    full = settings.get_current_profile_name() == "full"
    return settings(
        max_examples=100 if full else 10, deadline=None, database=None, derandomize=not full,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def body_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The body and parameters of a request: what is no form goes as it is."""
    body = {key: request[key] for key in ("json", "data", "params") if request.get(key) is not None}
    if isinstance(body.get("data"), bytes | str):
        body["content"] = body.pop("data")
    return body
