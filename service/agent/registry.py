"""The agents a job can name."""

from collections.abc import Iterable

from service.domain.errors import FieldError, InvalidInput
from service.ports import Agent

_ECHO = 80


class AgentRegistry:
    """Agents by name; two of the same name are a `ValueError` at start."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        self._agents: dict[str, Agent] = {}
        for agent in agents:
            if agent.name in self._agents:
                raise ValueError(f"two agents are named {agent.name}")
            self._agents[agent.name] = agent

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in the order of registration."""
        return tuple(self._agents)

    def get(self, name: str) -> Agent:
        """Look an agent up; raises `InvalidInput`."""
        agent = self._agents.get(name)
        if agent is None:
            message = f"{name[:_ECHO]!r} is not one of {', '.join(self._agents)}"
            raise InvalidInput(message, errors=[FieldError("agent", message)])
        return agent
