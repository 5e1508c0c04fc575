"""Agents of other distributions, registered in the entry-point group."""

import inspect
import re
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from service.domain.errors import ServiceError
from service.ports.agent import Agent
from service.ports.model import Model

GROUP = "user_story_service.agents"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


class BrokenPlugIn(ServiceError):
    """An installed agent cannot be used; the message names its distribution and entry point."""


def load_plug_ins(model: Model | None, taken: Iterable[str]) -> list[Agent]:
    """Call each entry point with the model and return the agents, sorted by name.

    `taken` are the names of our own agents. Without a model the agents can plan and show jobs.
    Raises `BrokenPlugIn`.
    """
    owners = dict.fromkeys(taken, "this service")
    agents = []
    for entry in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        if entry.name in owners:
            raise _broken(entry, f"the name is taken by {owners[entry.name]}")
        owners[entry.name] = _origin(entry)
        agents.append(_load(entry, model))
    return agents


def _load(entry: EntryPoint, model: Model | None) -> Agent:
    try:
        make: Callable[[Model | None], Any] = entry.load()
        agent = make(model)
    except Exception as error:
        raise _broken(entry, f"{type(error).__name__}: {error}") from error
    flaw = _flaw(agent, entry.name)
    if flaw is not None:
        raise _broken(entry, flaw)
    loaded: Agent = agent
    return loaded


def _flaw(agent: Any, name: str) -> str | None:
    if not _NAME.fullmatch(name):
        return "a name has small letters, digits and hyphens, and begins with a letter"
    if getattr(agent, "name", None) != name:
        return f"it must make an agent whose `name` is {name!r}"
    for method in ("plan", "snapshot"):
        if not callable(getattr(agent, method, None)):
            return f"its agent has no method `{method}`"
    if not inspect.iscoroutinefunction(getattr(agent, "run", None)):
        return "its agent has no coroutine method `run`"
    return None


def _broken(entry: EntryPoint, what: str) -> BrokenPlugIn:
    return BrokenPlugIn(f"the agent of {_origin(entry)} cannot be used: {what}")


def _origin(entry: EntryPoint) -> str:
    owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
    return f"{owner} (entry point {entry.name} = {entry.value})"
