"""The agents for tests and measurements, and the registry of agents."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from service.agent.noop import NoopAgent
from service.agent.registry import register
from service.agent.sleep import SleepAgent
from service.agent.stepwise import StepwiseAgent
from service.domain.errors import FailureKind, InvalidInput, JobFailure, ModelFailure
from service.domain.events import EventType
from service.domain.job import Job, JsonObject
from service.ports.model import ModelRequest
from service.ports.options import StrictOptions
from tests.fixtures.attempts import Crash, DictAttempt, a_job
from tests.fixtures.factories import a_checkpoint
from tests.fixtures.models import ScriptedModel, a_request


def sleeping_job(options: JsonObject, error_count: int = 0) -> Job:
    plan = SleepAgent().plan("x", "individual", None, options)
    return a_job(*plan.iterations, options=plan.options, error_count=error_count)


async def test_noop_ends_at_once() -> None:
    agent = NoopAgent()
    plan = agent.plan("x", "individual", None, {})
    attempt = DictAttempt(a_job(*plan.iterations, options=plan.options))
    result = await agent.run(attempt)
    assert (attempt.events, attempt.paid) == ([], [])
    assert result["models"] == []
    assert agent.snapshot(attempt.job, {})["story"] == result["story"]


@pytest.mark.parametrize("agent", [NoopAgent(), SleepAgent()])
@pytest.mark.parametrize(("iterations", "options"), [(["security"], {}), (None, {"surprise": 1})])
def test_small_agents_refuse_what_they_do_not_know(
    agent: NoopAgent | SleepAgent, iterations: list[str] | None, options: JsonObject
) -> None:
    with pytest.raises(InvalidInput) as caught:
        agent.plan("x", "individual", iterations, options)
    assert caught.value.errors[0].field in {"iterations", "options", "options.surprise"}


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": "3"}, {"stepSeconds": -1}])
def test_sleep_checks_its_options(options: JsonObject) -> None:
    with pytest.raises(InvalidInput) as caught:
        SleepAgent().plan("x", "individual", None, options)
    assert [error.field for error in caught.value.errors] == [f"options.{next(iter(options))}"]


async def test_sleep_makes_its_calls_once_across_a_crash() -> None:
    job = sleeping_job({"steps": 3, "stepSeconds": 0})
    first = DictAttempt(job, steps_until_crash=2)
    with pytest.raises(Crash):
        await SleepAgent().run(first)
    assert SleepAgent().snapshot(job, first.stored)["current"] == "step-3"
    second = DictAttempt(job, stored=first.stored)
    result = await SleepAgent().run(second)
    assert second.paid == ["step-3/draft"]
    assert result["steps"] == ["step-1", "step-2", "step-3"]
    assert second.details(EventType.START)[0]["resumed"] is True
    assert (
        SleepAgent().snapshot(job, second.stored)["completed"][2]
        == (second.details(EventType.ITERATION_COMPLETE)[0])
    )


async def test_sleep_fails_as_often_as_it_is_told() -> None:
    options = {"steps": 2, "failures": 2}
    stored = DictAttempt(sleeping_job(options)).stored
    for error_count in range(2):
        with pytest.raises(ModelFailure) as caught:
            await SleepAgent().run(DictAttempt(sleeping_job(options, error_count), stored=stored))
        assert caught.value.kind is FailureKind.TRANSIENT
    result = await SleepAgent().run(DictAttempt(sleeping_job(options, 2), stored=stored))
    assert len(result["steps"]) == 2


def test_agents_are_known_by_name() -> None:
    noop = NoopAgent()
    agents = register([noop, SleepAgent()])
    assert list(agents) == ["noop", "sleep"]
    assert agents["noop"] is noop
    with pytest.raises(ValueError, match="noop"):
        register([noop, NoopAgent()])


class SecondStepRefused(StepwiseAgent[StrictOptions]):
    """Takes two steps whatever it is asked for."""

    name = "two"
    tokens_per_step = 10
    options = StrictOptions

    def steps(self, options: StrictOptions) -> list[str]:
        return ["one", "two", "one"]

    def request(self, job: Job, step: str) -> ModelRequest:
        return a_request(step)

    def result(self, job: Job, outcomes: Mapping[str, str]) -> JsonObject:
        return {"said": dict(outcomes)}


def test_a_step_that_is_named_twice_is_taken_once() -> None:
    plan = SecondStepRefused(None).plan("x", "individual", None, {})
    assert (plan.iterations, plan.options, plan.estimated_tokens) == (("one", "two"), {}, 20)


async def test_an_agent_without_a_model_plans_and_shows_but_does_not_run() -> None:
    agent = SecondStepRefused(None)
    attempt = DictAttempt(a_job("one", "two"))
    assert agent.snapshot(attempt.job, {})["current"] == "one"
    with pytest.raises(RuntimeError, match="no model"):
        await agent.run(attempt)
    assert attempt.events == []


async def test_a_step_that_the_model_refuses_fails_the_job_with_what_was_done_before() -> None:
    refused = replace(a_checkpoint("two/draft"), stop_reason="refusal")
    attempt = DictAttempt(
        a_job("one", "two"),
        stored={"one/draft": a_checkpoint("one/draft", text="1"), "two/draft": refused},
    )
    with pytest.raises(JobFailure) as caught:
        await SecondStepRefused(ScriptedModel()).run(attempt)
    assert caught.value.code == "MODEL_REFUSED"
    assert "two" in caught.value.message
