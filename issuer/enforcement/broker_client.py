"""An enforcement point's own credentials: children of what was presented to it, for the next hop."""

from __future__ import annotations

import httpx
from joserfc.jwk import OKPKey

from issuer.broker.exchange import ACCESS_TYPE, GRANT_TYPE
from issuer.deployment import Deployment
from issuer.tokens.assertion import client_form, make_assertion
from issuer.tokens.dpop import make_proof
from ledger.errors import OutsideError, UsageError


class BrokerClient:
    """Exchanges as one workload."""

    def __init__(self, deployment: Deployment, workload: str, key: OKPKey, client: httpx.AsyncClient) -> None:
        self._deployment = deployment
        self._workload = workload
        self._key = key
        self._client = client

    async def exchange(
        self, subject_token: str, *, audience: str | None, scope: str | None = None, kind: str = ACCESS_TYPE,
        grant_id: str | None = None,
    ) -> str:  # fmt: skip
        """A credential for `audience`.

        Raises:
            UsageError: the broker refuses it.
            OutsideError: the broker does not answer.
        """
        base = self._deployment.urls["broker"]
        assertion = make_assertion(
            self._workload, base, self._key, jti=self._deployment.new_id(), now=self._deployment.now()
        )
        form = {
            "grant_type": GRANT_TYPE, "subject_token": subject_token, "subject_token_type": kind,
            **client_form(assertion),
        }  # fmt: skip
        asked = {"audience": audience, "scope": scope, "grant_id": grant_id}
        form |= {name: value for name, value in asked.items() if value is not None}
        url = f"{base}/token"
        try:
            answer = await self._client.post(url, data=form, headers={"DPoP": self.proof("POST", url)})
            value = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise OutsideError(f"The broker does not answer: {type(error).__name__}.") from error
        if answer.status_code != 200:
            said = value.get("error_description") if isinstance(value, dict) else None
            raise UsageError(f"The broker refuses: {said or answer.status_code}.")
        return str(value["access_token"])

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """A proof of possession for one request of this workload."""
        return make_proof(
            self._key, method, url, jti=self._deployment.new_id(), now=self._deployment.now(), token=token
        )
