"""The agents a job can name."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from service.ports.agent import Agent


def register(agents: Iterable[Agent]) -> Mapping[str, Agent]:
    """Return agents by name, in the order given; two of the same name are a `ValueError`."""
    registered: dict[str, Agent] = {}
    for agent in agents:
        if agent.name in registered:
            raise ValueError(f"two agents are named {agent.name}")
        registered[agent.name] = agent
    return MappingProxyType(registered)
