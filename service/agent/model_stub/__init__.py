"""A local server that speaks Anthropic's streaming API and refuses what the real one refuses."""

from service.agent.model_stub.faults import Fault, FaultKind, random_faults
from service.agent.model_stub.ledger import StubCall
from service.agent.model_stub.server import ModelStub, serve
from service.agent.model_stub.writer import Writer, write_reply

__all__ = [
    "Fault",
    "FaultKind",
    "ModelStub",
    "StubCall",
    "Writer",
    "random_faults",
    "serve",
    "write_reply",
]
