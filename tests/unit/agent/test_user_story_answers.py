"""Whatever a model answers: few calls, honest results, and nothing of the user's is lost."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from service.agent.prompts import load_prompts
from service.agent.user_story import UserStoryAgent
from service.domain.errors import FailureKind, JobFailure
from service.domain.folding import fold
from service.domain.intake import read_story
from service.domain.job import JsonObject
from service.domain.patches import MAX_ASKED, MAX_PATCHES
from service.domain.story import LIST_PATHS, MAX_ITEMS, MAX_TEXT, PATHS, Story
from service.domain.usage import Usage
from service.ports.model import ModelReply, ModelRequest
from tests.fixtures.attempts import STORY, DictAttempt, ScriptedModel, a_job, added, drafted

PROMPTS = load_prompts()
ITERATIONS = ("user-roles", "validation", "consolidation")
MOST_CALLS = 5

IDS = st.sampled_from(["AC-OUT-1", "AC-OUT-2", "AC-OUT-3", "AC-SYS-1", "QUESTION-1", "none"])
TEXTS = st.text(max_size=12) | st.sampled_from(["Same.", "same", "x" * MAX_TEXT, "x" * 501])
PATCHES = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "add", "replace", "remove", "merge"]),
        "path": st.sampled_from(PATHS),
        "reason": TEXTS,
    },
    optional={"id": IDS, "ids": st.lists(IDS, max_size=3), "text": TEXTS},
)
ODD: st.SearchStrategy[object] = st.sampled_from(
    [None, 7, "add", [], {}, {"op": "add"}, {"op": {}, "path": 1}]
)
# Every iteration but the consolidation may ask questions.
SOUND = st.integers(0, 40).map(lambda number: added(f"Question {number}?", "openQuestions"))
DRAFTS = st.builds(
    lambda sound, others: drafted(*sound, *others),
    st.lists(SOUND, min_size=1, max_size=3),
    st.lists(PATCHES | ODD, max_size=14),
)
VERIFICATIONS = st.builds(
    lambda score, issues: orjson.dumps({"score": score, "issues": issues}).decode(),
    st.sampled_from([0, 0.2, 0.3, 0.5, 0.69, 0.7, 0.8, 1.0, 7, "high"]),
    st.lists(
        st.builds(
            lambda severity: {"severity": severity, "category": "c", "description": "d"},
            st.sampled_from(["error", "warning", "info", "fatal"]),
        ),
        max_size=2,
    ),
)
RUBBISH = ["", "no", "{}", '{"patches": {}}', '{"patches": [', "[]", "null"]
# Mostly as it should be, or no run would get beyond its first iteration.
TEXTS_INSTEAD = st.sampled_from([None] * 24 + RUBBISH)
REASONS = st.sampled_from(["end_turn"] * 20 + ["max_tokens", "refusal", "news"])


@dataclass
class AnyModel(ScriptedModel):
    """Answers whatever is drawn."""

    draw: Callable[[Any], Any] = field(default=lambda _: None)

    async def complete(
        self, request: ModelRequest, meter: Any, on_text: Callable[[str], None]
    ) -> ModelReply:
        is_review = "verify" in request.subject["phase"]
        text = self.draw(TEXTS_INSTEAD)
        if text is None:
            text = self.draw(VERIFICATIONS if is_review else DRAFTS)
        on_text(text)
        return ModelReply(
            text=text,
            stop_reason=self.draw(REASONS),
            usage=Usage(100, 20, 5, 3),
            model=request.model,
        )


@settings(max_examples=300)
@given(data=st.data(), verify=st.sampled_from([True, True, True, False]))
def test_an_iteration_takes_at_most_five_calls_whatever_the_model_answers(
    data: st.DataObject, verify: bool
) -> None:
    attempt = DictAttempt(a_job(*ITERATIONS, options={"verify": verify}))
    outcome = _run(AnyModel(draw=data.draw), attempt)
    if isinstance(outcome, JobFailure):
        assert outcome.code in {"MODEL_REFUSED", "MODEL_OUTPUT_INVALID"}
        assert outcome.kind is FailureKind.PERMANENT
    else:
        _check_result(outcome, attempt)
    calls = Counter(step.partition("/")[0] for step in attempt.paid)
    assert max(calls.values()) <= (MOST_CALLS if verify else 2)
    assert len(set(attempt.paid)) == len(attempt.paid)


def _run(model: AnyModel, attempt: DictAttempt) -> JsonObject | JobFailure:
    try:
        return asyncio.run(UserStoryAgent(model, PROMPTS).run(attempt))
    except JobFailure as failure:
        return failure


def _check_result(result: JsonObject, attempt: DictAttempt) -> None:
    reviews = {each["iteration"]: each["reasons"] for each in result.get("needsReview", ())}
    assert [each["id"] for each in result["iterations"]] == list(ITERATIONS)
    assert result["tokenUsage"]["input"] == 100 * len(attempt.paid)
    for each in result["iterations"]:
        _check_iteration(each, reviews.get(each["id"]), attempt.job.options["verify"])
    assert fold(attempt.events).story.as_json() == result["story"]
    _check_story(Story.from_json(result["story"]))


def _check_iteration(shown: JsonObject, reasons: list[str] | None, verify: bool) -> None:
    assert len(shown["applied"]) <= MAX_PATCHES
    assert len(shown["applied"]) + len(shown["rejected"]) <= MAX_ASKED
    assert all(each["rejection"] for each in shown["rejected"])
    verification = shown["verification"]
    if verify and shown["applied"]:
        # It was verified and has passed, or a person is asked to look at it.
        assert (reasons is None) == (verification is not None and verification["passed"])
    else:
        assert (reasons, verification) == (None, None)


def _check_story(story: Story) -> None:
    items = [item for path in LIST_PATHS for item in story.items(path)]
    assert len(items) <= MAX_ITEMS
    assert len({item.id for item in items}) == len(items)
    # What the user wrote is there, word by word, whatever was made of it.
    kept = {item.original or item.text for item in items if item.iteration == "intake"}
    given_by_user = [item.text for path in LIST_PATHS for item in read_story(STORY).items(path)]
    assert kept == set(given_by_user)
