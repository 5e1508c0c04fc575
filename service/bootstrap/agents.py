"""The agents of a process and the model that they call."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal

from service.agent.anthropic_model import AnthropicModel
from service.agent.noop import NoopAgent
from service.agent.offline_model import OFFLINE, OfflineModel
from service.agent.preview import UserStoryPreviewer
from service.agent.prompts import load_prompts
from service.agent.registry import register
from service.agent.sleep import SleepAgent
from service.agent.user_story import UserStoryAgent
from service.bootstrap.plug_ins import load_plug_ins
from service.domain.pricing import cost_usd
from service.domain.usage import Usage
from service.ports.agent import Agent
from service.ports.model import Model
from service.ports.preview import WorkflowPreviewer
from service.settings import Settings


def planning_agents(settings: Settings) -> Mapping[str, Agent]:
    """Return agents that can plan and show jobs: all that the API needs, without a key.

    Raises `BrokenPlugIn`.
    """
    return _agents(settings, None)


def workflow_previewer(settings: Settings) -> WorkflowPreviewer:
    """Return who estimates workflows, with the prices of the model that this process is told of."""
    prompts = load_prompts()
    if settings.model == OFFLINE:
        price = OfflineModel().cost_usd
        return UserStoryPreviewer(prompts, price, today=today, only_model=OFFLINE)
    return UserStoryPreviewer(prompts, _price_today, today=today)


@asynccontextmanager
async def running_agents(settings: Settings) -> AsyncIterator[Mapping[str, Agent]]:
    """Provide agents that can run jobs; raises `MissingApiKey` and `BrokenPlugIn`."""
    if settings.model == OFFLINE:
        yield _agents(settings, OfflineModel(settings.offline_pace))
        return
    async with claude(settings) as model:
        yield _agents(settings, model)


@asynccontextmanager
async def claude(settings: Settings) -> AsyncIterator[AnthropicModel]:
    """Provide the adapter of Claude's API; raises `MissingApiKey`."""
    key = settings.anthropic_api_key
    model = AnthropicModel(
        key.get_secret_value() if key else None,
        today=today,
        base_url=settings.anthropic_base_url,
        idle_timeout=settings.model_idle_timeout,
        total_timeout=settings.model_timeout,
    )
    try:
        yield model
    finally:
        await model.close()


def _agents(settings: Settings, model: Model | None) -> Mapping[str, Agent]:
    only_model = OFFLINE if settings.model == OFFLINE else None
    agents: list[Agent] = [
        UserStoryAgent(model, load_prompts(), only_model=only_model, today=today)
    ]
    if settings.test_agents:
        agents += [NoopAgent(), SleepAgent()]
    agents += load_plug_ins(model, [agent.name for agent in agents])
    return register(agents)


def _price_today(model: str, usage: Usage) -> Decimal | None:
    return cost_usd(model, usage, today())


def today() -> date:
    """Return the day whose prices and models count."""
    return datetime.now(UTC).date()
