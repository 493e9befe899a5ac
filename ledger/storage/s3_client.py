"""One way to speak to a bucket: endpoint, credentials, time limits and retries of obstore's S3 client.

Credentials, region and endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, AWS_ENDPOINT_URL, ...) as obstore reads it, unless given.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import S3Store

from ledger.errors import UsageError
from ledger.storage.s3_address import endpoint_of_environment, is_loopback_http

if TYPE_CHECKING:
    # obstore has these names for type checkers only.
    from obstore.store import ClientConfig, RetryConfig, S3Config

REQUEST_TIMEOUT_SECONDS = 120.0
"""How long one request may take, a large segment on a slow line included."""
CONNECT_TIMEOUT_SECONDS = 5.0
READ_RETRIES = 5
READ_RETRY_SECONDS = 30.0


def s3_client(
    bucket: str,
    prefix: str,
    *,
    retries: int | None = None,
    endpoint: str | None = None,
    request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    config: Mapping[str, Any] | None = None,
) -> S3Store:
    """A client of `bucket`, whose paths begin at `prefix` ("" for all of it).

    `retries` are those of requests that fail for a passing reason, READ_RETRIES unless said. `endpoint` is of
    a compatible service; plain http only on this machine. `config` has obstore's settings, over those of the
    environment.

    Raises:
        UsageError: a setting is unusable, or the endpoint is unencrypted and remote.
    """
    settings: S3Config = {}
    settings.update(config or {})  # type: ignore[typeddict-item] # obstore refuses what it does not know
    endpoint = endpoint or endpoint_of_environment()
    if endpoint is not None:
        # This key wins over the environment: the endpoint that is checked is the one that is used.
        settings["aws_endpoint_url_s3"] = endpoint
    client: ClientConfig = {
        "allow_http": is_loopback_http(endpoint),
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
        "timeout": timedelta(seconds=request_timeout_seconds),
    }
    retry: RetryConfig = {"max_retries": READ_RETRIES if retries is None else retries}
    if retry["max_retries"]:
        retry["retry_timeout"] = timedelta(seconds=READ_RETRY_SECONDS)
    try:
        return S3Store(
            bucket, prefix=prefix or None, config=settings, client_options=client, retry_config=retry
        )
    except (BaseError, ValueError) as error:
        raise UsageError(
            f"The settings for s3://{bucket}/{prefix} are unusable: {str(error).splitlines()[0]}.",
            "Correct the AWS_... variables of the environment.",
        ) from error
