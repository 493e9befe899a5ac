"""Requests that schemathesis makes up, as HTTP clients take them, and as many of them as a test tries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings


def few() -> settings:
    """Ten examples of each request, a hundred in the long form of the tests; else as for every property."""
    full = settings.get_current_profile_name() == "full"
    return settings(max_examples=100 if full else 10, suppress_health_check=list(HealthCheck))


def body_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """The body and parameters of a request: what is no form goes as it is."""
    body = {key: request[key] for key in ("json", "data", "params") if request.get(key) is not None}
    if isinstance(body.get("data"), bytes | str):
        body["content"] = body.pop("data")
    return body
