"""A typed client of the service's HTTP API: submit, wait, follow."""

from service.client.api_client import ApiClient
from service.client.errors import ApiProblem, ClientFailure, UnexpectedReply, Unreachable
from service.client.event_stream import StreamEvent

__all__ = [
    "ApiClient",
    "ApiProblem",
    "ClientFailure",
    "StreamEvent",
    "UnexpectedReply",
    "Unreachable",
]
