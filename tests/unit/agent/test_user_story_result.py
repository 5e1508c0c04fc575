"""A result, field by field, for every way in which an iteration can end."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from service.agent.prompts import load_prompts
from service.agent.user_story import UserStoryAgent
from service.domain.errors import JobFailure
from service.domain.events import EventType
from service.domain.folding import fold
from service.domain.intake import read_story
from service.domain.job import JobStatus, JsonObject
from service.domain.markdown import render_markdown
from service.domain.story import Story
from service.telemetry.metrics import REGISTRY
from tests.fixtures.attempts import (
    STORY,
    DictAttempt,
    ScriptedModel,
    a_job,
    added,
    drafted,
    reviewed,
)

AGENT_PROMPTS = load_prompts()
GOOD, BETTER = added("Given a, when b, then c."), added("Given d, when e, then f.")
FORBIDDEN = added("Given g, when h, then i.", "implementationNotes.security")
DRAFTS, VERIFIES = "claude-sonnet-5-5", "claude-haiku-5-5"
PASSED: JsonObject = {"passed": True, "score": 0.9, "issues": []}


def judged(score: float, *severities: str) -> JsonObject:
    """A verification as the result shows it, in the words of `reviewed`."""
    issues = [
        {"severity": severity, "category": "invention", "description": f"issue {number}"}
        for number, severity in enumerate(severities)
    ]
    passed = score >= 0.7 and "error" not in severities
    return {"passed": passed, "score": score, "issues": issues}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the model answers, by step, and what the iteration comes to."""

    name: str
    script: dict[str, str]
    steps: Sequence[str]
    applied: Sequence[JsonObject]
    verification: JsonObject | None
    reviews: Sequence[str] = ()
    rejected: Sequence[JsonObject] = ()
    stop_reasons: dict[str, str] = field(default_factory=dict)
    options: JsonObject = field(default_factory=dict)


ASKED = drafted(GOOD, FORBIDDEN)
FORBIDDEN_SHOWN = {
    "rejection": "path-not-allowed",
    "op": "add",
    "path": "implementationNotes.security",
    "text": FORBIDDEN["text"],
}
OUTCOMES = [
    Outcome(
        name="passed",
        script={"draft": ASKED},
        steps=["draft", "verify"],
        applied=[GOOD],
        rejected=[FORBIDDEN_SHOWN],
        verification=PASSED,
    ),
    Outcome(
        name="nothing to add",
        script={"draft": drafted()},
        steps=["draft"],
        applied=[],
        verification=None,
    ),
    Outcome(
        name="nobody asked for a verification",
        script={"draft": ASKED},
        steps=["draft"],
        applied=[GOOD],
        rejected=[FORBIDDEN_SHOWN],
        verification=None,
        options={"verify": False},
    ),
    Outcome(
        name="redo passed",
        script={
            "draft": ASKED,
            "verify": reviewed(0.9, "error"),
            "redo": drafted(BETTER, 7),
            "reverify": reviewed(0.8, "info"),
        },
        steps=["draft", "verify", "redo", "reverify"],
        applied=[BETTER],
        rejected=[{"rejection": "malformed"}],
        verification=judged(0.8, "info"),
    ),
    Outcome(
        name="redo kept for its higher score",
        script={
            "draft": ASKED,
            "verify": reviewed(0.3),
            "redo": drafted(BETTER),
            "reverify": reviewed(0.5, "warning"),
        },
        steps=["draft", "verify", "redo", "reverify"],
        applied=[BETTER],
        verification=judged(0.5, "warning"),
        reviews=["verification-not-passed"],
    ),
    Outcome(
        name="redo, and the first kept",
        script={
            "draft": ASKED,
            "verify": reviewed(0.6),
            "redo": drafted(BETTER),
            "reverify": reviewed(0.6),
        },
        steps=["draft", "verify", "redo", "reverify"],
        applied=[GOOD],
        rejected=[FORBIDDEN_SHOWN],
        verification=judged(0.6),
        reviews=["verification-not-passed"],
    ),
    Outcome(
        name="redo that cannot be used",
        script={"draft": drafted(GOOD), "verify": reviewed(0.6), "redo": "no"},
        steps=["draft", "verify", "redo"],
        applied=[GOOD],
        verification=judged(0.6),
        reviews=["verification-not-passed", "redo-unusable"],
    ),
    Outcome(
        name="redo that is refused",
        script={"draft": drafted(GOOD), "verify": reviewed(0.6)},
        stop_reasons={"redo": "refusal"},
        steps=["draft", "verify", "redo"],
        applied=[GOOD],
        verification=judged(0.6),
        reviews=["verification-not-passed", "redo-unusable"],
    ),
    Outcome(
        name="redo without patches",
        script={"draft": drafted(GOOD), "verify": reviewed(0.6), "redo": drafted(7)},
        steps=["draft", "verify", "redo"],
        applied=[GOOD],
        verification=judged(0.6),
        reviews=["verification-not-passed"],
    ),
    Outcome(
        name="verification that cannot be used",
        script={"draft": ASKED, "verify": "no"},
        steps=["draft", "verify"],
        applied=[GOOD],
        rejected=[FORBIDDEN_SHOWN],
        verification=None,
        reviews=["verification-invalid"],
    ),
    Outcome(
        name="verification that was refused",
        script={"draft": drafted(GOOD)},
        stop_reasons={"verify": "refusal"},
        steps=["draft", "verify"],
        applied=[GOOD],
        verification=None,
        reviews=["verification-invalid"],
    ),
    Outcome(
        name="second verification that cannot be used",
        script={
            "draft": drafted(GOOD),
            "verify": reviewed(0.6),
            "redo": drafted(BETTER),
            "reverify": "no",
        },
        steps=["draft", "verify", "redo", "reverify"],
        applied=[GOOD],
        verification=judged(0.6),
        reviews=["verification-not-passed", "verification-invalid"],
    ),
    Outcome(
        name="repaired",
        script={"draft": ASKED[:-9], "repair": drafted(BETTER)},
        steps=["draft", "repair", "verify"],
        applied=[BETTER],
        verification=PASSED,
    ),
    Outcome(
        name="repaired and redone: five calls",
        script={
            "draft": "cut",
            "repair": drafted(GOOD),
            "verify": reviewed(0.2),
            "redo": drafted(BETTER),
        },
        stop_reasons={"draft": "max_tokens"},
        steps=["draft", "repair", "verify", "redo", "reverify"],
        applied=[BETTER],
        verification=PASSED,
    ),
]


def agent(outcome_script: dict[str, str], stop_reasons: dict[str, str]) -> UserStoryAgent:
    """An agent whose model answers the validation iteration by a script."""
    model = ScriptedModel(
        {f"validation/{step}": text for step, text in outcome_script.items()},
        {f"validation/{step}": reason for step, reason in stop_reasons.items()},
    )
    return UserStoryAgent(model, AGENT_PROMPTS)


async def run(outcome: Outcome) -> tuple[JsonObject, DictAttempt]:
    attempt = DictAttempt(a_job("validation", options=outcome.options))
    return await agent(outcome.script, outcome.stop_reasons).run(attempt), attempt


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.name)
async def test_a_result_is_complete_however_its_iteration_ended(outcome: Outcome) -> None:
    result, attempt = await run(outcome)

    calls = len(outcome.steps)
    verifications = sum("verify" in step for step in outcome.steps)
    spent = {
        "tokenUsage": {
            "input": 100 * calls,
            "output": 20 * calls,
            "cacheRead": 5 * calls,
            "cacheWrite": 3 * calls,
        },
        "costUsd": pytest.approx(0.001 * calls),
        "durationMs": sum(10 * number for number in range(1, calls + 1)),
    }
    reviews = [{"iteration": "validation", "reasons": list(outcome.reviews)}]
    story = _expected_story(outcome)
    assert attempt.paid == [f"validation/{step}" for step in outcome.steps]
    assert result == {
        "story": story.as_json(),
        "markdown": render_markdown(story, STORY, {}),
        "originalStory": STORY,
        "iterations": [
            {
                "id": "validation",
                "applied": _numbered(outcome.applied),
                "rejected": list(outcome.rejected),
                "verification": outcome.verification,
                **spent,
            }
        ],
        **({"needsReview": reviews} if outcome.reviews else {}),
        **spent,
        "models": [DRAFTS, VERIFIES] if verifications else [DRAFTS],
    }
    assert fold(attempt.events).story.as_json() == result["story"]
    (summary,) = result["iterations"]
    told = {"iteration": summary["id"]} | {k: v for k, v in summary.items() if k != "id"}
    assert attempt.details(EventType.ITERATION_COMPLETE) == [told]


def _numbered(patches: Sequence[JsonObject]) -> list[JsonObject]:
    """The intake's two criteria come first."""
    return [{**patch, "id": f"AC-OUT-{n}"} for n, patch in enumerate(patches, start=3)]


def _expected_story(outcome: Outcome) -> Story:
    story = read_story(STORY).as_json()
    for patch in _numbered(outcome.applied):
        item = {"id": patch["id"], "text": patch["text"], "iteration": "validation"}
        story[patch["path"]] = [*story[patch["path"]], item]
    return Story.from_json(story)


FAILURES: list[tuple[dict[str, str], dict[str, str], str]] = [
    ({}, {"draft": "refusal"}, "MODEL_REFUSED"),
    ({"draft": "no"}, {"repair": "refusal"}, "MODEL_REFUSED"),
    ({"draft": "no", "repair": "no"}, {}, "MODEL_OUTPUT_INVALID"),
    ({}, {"draft": "max_tokens", "repair": "max_tokens"}, "MODEL_OUTPUT_INVALID"),
]


@pytest.mark.parametrize(("script", "stop_reasons", "code"), FAILURES)
async def test_an_iteration_that_fails_fails_the_job_and_what_was_finished_stays_readable(
    script: dict[str, str], stop_reasons: dict[str, str], code: str
) -> None:
    model = ScriptedModel(
        {"user-roles/draft": drafted(GOOD)}
        | {f"validation/{step}": text for step, text in script.items()},
        {f"validation/{step}": reason for step, reason in stop_reasons.items()},
    )
    attempt = DictAttempt(a_job("user-roles", "validation", "security"))
    with pytest.raises(JobFailure) as caught:
        await UserStoryAgent(model, AGENT_PROMPTS).run(attempt)

    assert caught.value.code == code
    assert "validation" in caught.value.message
    failed = a_job("user-roles", "validation", "security", status=JobStatus.FAILED)
    shown = UserStoryAgent(None, AGENT_PROMPTS).snapshot(failed, attempt.checkpoints)
    assert [each["iteration"] for each in shown["completed"]] == ["user-roles"]
    assert shown["completed"][0]["applied"] == [{**GOOD, "id": "AC-OUT-3"}]
    assert GOOD["text"] in [item["text"] for item in shown["story"]["outcomeAcceptanceCriteria"]]
    assert not [step for step in attempt.paid if step.startswith("security/")]


def counted(reason: str) -> float:
    labels = {"iteration": "validation", "reason": reason}
    return REGISTRY.get_sample_value("usa_patches_rejected_total", labels) or 0.0


async def test_every_dropped_patch_is_counted_once_by_iteration_and_reason() -> None:
    long = added("x" * 501)
    script = {
        "draft": drafted(GOOD, FORBIDDEN, long, 7),
        "verify": reviewed(0.2),
        "redo": drafted(BETTER, GOOD, BETTER, 7),
    }
    reasons = ["path-not-allowed", "text-too-long", "malformed", "duplicate-text"]
    before = [counted(reason) for reason in reasons]
    attempt = DictAttempt(a_job("validation"))
    await agent(script, {}).run(attempt)
    again = DictAttempt(attempt.job, attempt.stored)
    await agent(script, {}).run(again)

    assert again.paid == []
    after = [counted(reason) for reason in reasons]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 2, 1]
