"""Runs that crash and go on, and what watchers make of their events."""

from itertools import pairwise

import pytest

from service.agent.prompts import load_prompts
from service.agent.user_story import UserStoryAgent
from service.domain.errors import JobFailure
from service.domain.events import EventType
from service.domain.folding import fold
from service.domain.job import JobStatus, JsonObject
from service.ports.model import Model
from tests.fixtures.attempts import (
    Crash,
    DictAttempt,
    ScriptedModel,
    a_job,
    added,
    drafted,
    reviewed,
)

PROMPTS = load_prompts()
BUSY = ("user-roles", "validation", "security")
BUSY_STEPS = 9


def agent_with(model: Model) -> UserStoryAgent:
    return UserStoryAgent(model, PROMPTS)


def busy_model() -> ScriptedModel:
    """A model whose three iterations take repairs, redos and plain passes."""
    return ScriptedModel(
        {
            "user-roles/draft": "cut",
            "user-roles/repair": drafted(added("Role one."), added("Role two.")),
            "user-roles/verify": reviewed(0.4, "warning"),
            "user-roles/redo": drafted(added("Role three.")),
            "user-roles/reverify": reviewed(0.8),
            "validation/draft": drafted(
                added("Entry."),
                {
                    "op": "merge",
                    "path": "outcomeAcceptanceCriteria",
                    "ids": ["AC-OUT-2", "AC-OUT-3"],
                    "text": "Merged.",
                    "reason": "Same.",
                },
            ),
            "validation/verify": "no json",
            "security/draft": drafted(added("Safe.", "systemAcceptanceCriteria")),
        }
    )


async def test_a_crash_after_any_step_changes_nothing_and_repeats_no_call() -> None:
    whole = DictAttempt(a_job(*BUSY))
    expected = await agent_with(busy_model()).run(whole)
    assert len(whole.paid) == BUSY_STEPS
    for crash in range(1, BUSY_STEPS + 1):
        first = DictAttempt(a_job(*BUSY), steps_until_crash=crash)
        with pytest.raises(Crash):
            await agent_with(busy_model()).run(first)
        second = DictAttempt(a_job(*BUSY), stored=first.stored)
        assert await agent_with(busy_model()).run(second) == expected
        assert first.paid + second.paid == whole.paid
        assert second.types()[0] is EventType.START
        assert second.details(EventType.START)[0]["resumed"] is True


async def test_folding_the_events_gives_the_results_story_also_across_crashes() -> None:
    expected = await agent_with(busy_model()).run(DictAttempt(a_job(*BUSY)))
    stored = DictAttempt(a_job(*BUSY)).stored
    events: list[tuple[str, JsonObject]] = []
    for _ in range(BUSY_STEPS):
        attempt = DictAttempt(a_job(*BUSY), stored=stored, steps_until_crash=1)
        with pytest.raises(Crash):
            await agent_with(busy_model()).run(attempt)
        events += attempt.events
    last = DictAttempt(a_job(*BUSY), stored=stored)
    await agent_with(busy_model()).run(last)
    view = fold([*events, *last.events])
    assert view.story.as_json() == expected["story"]
    assert [each["iteration"] for each in view.completed] == list(BUSY)
    twice = fold([event for event in (*events, *last.events) for _ in range(2)])
    assert twice.story.as_json() == expected["story"]


async def test_at_every_moment_the_folded_story_only_grows_out_of_accepted_patches() -> None:
    attempt = DictAttempt(a_job(*BUSY))
    await agent_with(busy_model()).run(attempt)
    seen = [
        {item.text for _, item in fold(attempt.events[:count]).story.every_item()}
        for count in range(1, len(attempt.events) + 1)
    ]
    assert {"Role one.", "Role two."} <= set.union(*seen)
    assert not {"Role one.", "Role two."} & seen[-1]
    resets = [i for i, kind in enumerate(attempt.types()) if kind is EventType.ITERATION_RESET]
    assert all(len(seen[at]) == 2 for at in resets)
    assert any(len(later) > len(earlier) for earlier, later in pairwise(seen))


async def test_a_snapshot_shows_the_job_as_of_its_last_checkpoint() -> None:
    agent = agent_with(busy_model())
    attempt = DictAttempt(a_job(*BUSY))
    result = await agent.run(attempt)
    completions = attempt.details(EventType.ITERATION_COMPLETE)
    kept = dict(list(attempt.stored.items())[:6])
    half = agent.snapshot(a_job(*BUSY), kept)
    assert half["completed"] == completions[:1]
    assert half["current"] == "validation"
    assert half["iterations"] == list(BUSY)
    whole = agent.snapshot(a_job(*BUSY, status=JobStatus.COMPLETED), attempt.stored)
    assert whole["story"] == result["story"]
    assert whole["completed"] == completions
    assert whole["current"] is None
    assert agent.snapshot(a_job(*BUSY, status=JobStatus.FAILED), {})["current"] is None


async def test_a_snapshot_of_a_job_that_failed_keeps_what_was_finished() -> None:
    model = ScriptedModel(
        {"user-roles/draft": drafted(added("Given a."))}, {"validation/draft": "refusal"}
    )
    attempt = DictAttempt(a_job(*BUSY))
    agent = agent_with(model)
    with pytest.raises(JobFailure):
        await agent.run(attempt)
    shown = agent.snapshot(a_job(*BUSY, status=JobStatus.FAILED), attempt.stored)
    assert [each["iteration"] for each in shown["completed"]] == ["user-roles"]
    again = DictAttempt(a_job(*BUSY), stored=attempt.stored)
    with pytest.raises(JobFailure):
        await agent.run(again)
    assert again.paid == []
    assert again.types() == [EventType.START]


async def test_an_iteration_that_no_longer_exists_fails_the_job_and_not_the_snapshot() -> None:
    job = a_job("palmistry")
    agent = agent_with(ScriptedModel())
    with pytest.raises(JobFailure) as caught:
        await agent.run(DictAttempt(job))
    assert caught.value.code == "PROCESSING_ERROR"
    assert agent.snapshot(job, {})["completed"] == []


async def test_what_an_earlier_attempt_had_accepted_is_shown_again_when_it_goes_on() -> None:
    model = ScriptedModel({"validation/draft": drafted(added("Given a."))})
    first = DictAttempt(a_job("validation"), steps_until_crash=1)
    with pytest.raises(Crash):
        await agent_with(model).run(first)
    second = DictAttempt(a_job("validation"), stored=first.stored)
    await agent_with(model).run(second)
    start, begun, shown = (details for _, details in second.events[:3])
    assert (start["resumed"], start["completed"]) == (True, [])
    assert begun == {"iteration": "validation", "index": 1, "total": 1}
    assert [patch["text"] for patch in shown["patches"]] == ["Given a."]
    assert shown["phase"] == "verify"
