"""Runs stories through the agent, without servers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import orjson

from service.agent.prompts import load_prompts
from service.agent.user_story import UserStoryAgent
from service.domain.errors import InvalidInput, JobFailure
from service.domain.job import JsonObject
from service.ports.model import Model
from tests.evaluation.cases import Case
from tests.evaluation.checks import CHECKS, Events
from tests.fixtures.attempts import DictAttempt, a_job

PROMPTS: Final = load_prompts()
TODAY: Final = date(2026, 11, 24)
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a story; `failure` says why there is no result."""

    case: Case
    result: JsonObject | None
    events: Events
    failure: str | None = None


async def try_case(case: Case, model: Model, only_model: str | None) -> Trial:
    """Submit one story and run its job to the end."""
    agent = UserStoryAgent(model, PROMPTS, only_model=only_model, today=lambda: TODAY)
    try:
        plan = agent.plan(case.story, case.mode, case.iterations, case.options)
    except InvalidInput as refusal:
        return Trial(case, None, (), f"refused: {refusal}")
    attempt = DictAttempt(a_job(*plan.iterations, story=case.story, options=plan.options))
    try:
        result = await agent.run(attempt)
    except JobFailure as failure:
        return Trial(case, None, (), f"{failure.code}: {failure.message}")
    # What the API shows has been through JSON.
    return Trial(case, orjson.loads(orjson.dumps(result)), tuple(attempt.events))


async def try_all(cases: Sequence[Case], model: Model, only_model: str | None) -> list[Trial]:
    """Run all stories, a few at a time."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(case: Case) -> Trial:
        async with slots:
            return await try_case(case, model, only_model)

    return await asyncio.gather(*map(in_turn, cases))


def complaints(trial: Trial) -> dict[str, list[str]]:
    """Return what each check has to say against a trial, by the check's name."""
    case, result = trial.case, trial.result
    if case.is_refused:
        was_refused = (trial.failure or "").startswith("refused: ")
        return {"intake": [] if was_refused else ["it was accepted"]}
    if result is None:
        return {"steps": [trial.failure or "there is no result"]}
    return {name: list(check(case, result, trial.events)) for name, check in CHECKS.items()}
