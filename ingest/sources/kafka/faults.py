"""What the broker answered, in words: one message and one remedy per kind of failure."""

from __future__ import annotations

from kafka import errors

from ingest.sources.kafka.settings import KafkaSettings


class Remedied(Exception):
    """A failure of the reading process that already knows its remedy."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def explain(error: Exception, settings: KafkaSettings) -> dict[str, str]:
    """Message and remedy for the user. Holds addresses and topic names, never credentials."""
    if isinstance(error, Remedied):
        return {"message": error.message, "remedy": error.remedy}
    servers = settings.bootstrap_servers
    name = type(error).__name__
    message, remedy = f"Kafka at {servers} failed: {name}: {error}.", "See the broker's log; then try again."
    if isinstance(error, errors.SaslAuthenticationFailedError):
        message = f"Kafka at {servers} refused the credentials."
        remedy = "Correct the sasl_ settings."
    elif isinstance(error, (errors.TopicAuthorizationFailedError, errors.GroupAuthorizationFailedError)):
        message = f"Kafka at {servers} does not let this client read: {name}: {error}."
        remedy = f"Grant Read on the topics and on the group {settings.group_id}."
    elif isinstance(error, errors.CorruptRecordError):
        message = f"A batch from Kafka at {servers} is damaged: {error}."
        remedy = "Nothing is skipped. Check the broker's disk, restore the batch from a replica, start again."
    elif isinstance(error, (errors.KafkaTimeoutError, errors.KafkaConnectionError)):
        message = f"Kafka at {servers} does not answer."
        remedy = "Check the address, the network and that the broker runs; then start again."
        if settings.client:
            # The client tries again whatever refused it, and tells a refusal from silence to nobody.
            message = f"Kafka at {servers} does not answer, or refuses the TLS or SASL settings."
            remedy = "Check the address, the certificates, the user and the password; then start again."
    elif isinstance(error, errors.LogTruncationError):
        message = f"The broker's log was cut below what was already read: {error}."
        remedy = "Find out what the broker lost (an unclean leader election); to go on, re-create the topic."
    return {"message": message, "remedy": remedy}
