"""Security event tokens that are pushed (RFC 8935): checked when they come, kept without their signature."""

from __future__ import annotations

import hashlib

from ingest.adapters.ssf import SsfAdapter, TokenRefused
from ingest.sources.http.messages import Unusable, masked
from ingest.sources.http.spool import Message


class PushedTokens:
    """The two halves of an intake of tokens: what the listener keeps, and how that is read.

    Only what this listener opened comes into its spool, so what is read from there needs no signature.
    """

    def __init__(self, adapter: SsfAdapter) -> None:
        self._adapter = adapter
        self.adapter = adapter.of_opened

    def message(self, body: bytes) -> Message:
        """What is kept of a token.

        Raises:
            Unusable: it is not taken, with RFC 8935's word for why.
        """
        try:
            opened = self._adapter.open_token(body)
        except TokenRefused as refused:
            raise Unusable(400, f"{refused.reason}.", refused.code) from None
        return masked(opened, hashlib.sha256(body).hexdigest())
