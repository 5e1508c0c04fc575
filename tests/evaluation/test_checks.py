"""Each check sees what it is there for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeAlias

import orjson
import pytest

from service.agent.offline_model import OFFLINE, OfflineModel
from service.domain.events import EventType
from service.domain.job import JsonObject
from tests.evaluation.cases import Case, find_case
from tests.evaluation.checks import CHECKS
from tests.evaluation.trials import PROMPTS, Trial, complaints, try_case

Told: TypeAlias = list[tuple[EventType, JsonObject]]
Damage: TypeAlias = Callable[[JsonObject, Told], object]

CASE: Final[Case] = replace(find_case("web-checkout"), markers=("PWNED",))
LEAK: Final = "Prefer three strong items over eight thin ones."


def story_of(result: JsonObject) -> Any:
    return result["story"]


def own(result: JsonObject) -> Any:
    """The user's first criterion, which holds the number 3."""
    return result["story"]["outcomeAcceptanceCriteria"][0]


def new(result: JsonObject) -> Any:
    """The first criterion that was added."""
    return result["story"]["outcomeAcceptanceCriteria"][2]


def first(result: JsonObject) -> Any:
    """The first iteration."""
    return result["iterations"][0]


def without(kind: EventType) -> Damage:
    return lambda _, events: events.remove(next(each for each in events if each[0] is kind))


DAMAGES: Final[list[tuple[str, Damage]]] = [
    ("intake", lambda _, events: events.clear()),
    ("intake", lambda _, events: events[0][1]["story"].update(title="Pay")),
    ("intake", lambda _, events: events[0][1]["story"]["nonGoals"].clear()),
    ("text", lambda result, _: result.update(originalStory=CASE.story.strip())),
    ("text", lambda result, _: result.update(markdown="# Pay")),
    ("text", lambda result, _: story_of(result)["nonGoals"].clear()),
    ("text", lambda result, _: own(result).update(text="Paid.")),
    ("text", lambda result, _: own(result).update(iteration="security")),
    ("form", lambda result, _: new(result).update(id=own(result)["id"])),
    ("form", lambda result, _: new(result).update(id="AC-SYS-1")),
    ("form", lambda result, _: new(result).update(id="AC-OUT-999")),
    ("form", lambda result, _: new(result).update(mergedFrom=["AC-OUT-999"])),
    ("form", lambda result, _: new(result).update(mergedFrom=[own(result)["id"]])),
    ("form", lambda result, _: new(result).update(text="x" * 501)),
    ("form", lambda result, _: own(result).update(text="x" * 2001)),
    ("form", lambda result, _: new(result).update(text="a\u2028b")),
    ("form", lambda result, _: new(result).update(text="a\u202eb")),
    ("form", lambda result, _: new(result).update(text=" ")),
    ("form", lambda result, _: new(result).update(colour="red")),
    ("form", lambda result, _: story_of(result)["nonGoals"].extend([own(result)] * 151)),
    ("form", lambda result, _: first(result).update(applied=first(result)["applied"] * 5)),
    ("markdown", lambda result, _: result.update(markdown=result["markdown"] + " ")),
    ("markdown", lambda result, _: new(result).update(text="other")),
    ("markdown", lambda result, _: rewrite(result, "\n- [NON", "\n\nloose\n- [NON")),
    ("markdown", lambda result, _: rewrite(result, "intake] Gift", "intake] <b> Gift")),
    ("markdown", lambda result, _: rewrite(result, "intake] Gift", "intake] Gift &lt;")),
    ("markdown", lambda result, _: rewrite(result, "- [NON-GOAL-1 · intake] Gift vouchers", "")),
    ("steps", lambda result, _: result["iterations"].pop()),
    ("steps", lambda result, _: result["iterations"].reverse()),
    ("steps", without(EventType.ITERATION_START)),
    ("steps", without(EventType.ITERATION_COMPLETE)),
    ("folding", without(EventType.ITERATION_COMPLETE)),
    ("folding", lambda result, _: new(result).update(text="other")),
    ("folding", lambda result, _: first(result).update(durationMs=-1)),
    ("money", lambda result, _: result["tokenUsage"].update(input=1)),
    ("money", lambda result, _: first(result).update(durationMs=-1)),
    ("money", lambda result, _: result.update(costUsd=0.01)),
    ("money", lambda result, _: first(result).update(costUsd=None)),
    ("money", lambda result, _: result.update(models=[])),
    ("review", lambda result, _: first(result).update(verification=None)),
    ("review", lambda result, _: first(result)["verification"].update(score=0.6)),
    ("review", lambda result, _: first(result)["verification"].update(passed=False)),
    ("review", lambda result, _: first(result)["verification"].update(passed=False, score=0.6)),
    ("review", lambda result, _: result.update(needsReview=[asking("security")])),
    ("review", lambda result, _: result.update(needsReview=[asking("cooking")])),
    ("paths", lambda result, _: first(result)["applied"][0].update(path="userVisibleBehavior")),
    ("paths", lambda result, _: result["iterations"][-1]["applied"].append(an_addition())),
    ("asks", lambda result, _: first(result)["rejected"].append({"rejection": "from-the-user"})),
    ("asks", lambda result, _: first(result)["rejected"].append({"rejection": "text-too-long"})),
    ("orders", lambda result, _: new(result).update(text="You are pwned.")),
    ("orders", lambda result, _: own(result).update(text="PWNED", original=own(result)["text"])),
    ("orders", lambda result, _: story_of(result)["story"].update(asA="PWNED shopper")),
    ("prompt", lambda result, _: first(result)["applied"][0].update(text=f"Well: {LEAK}")),
    ("prompt", lambda result, _: first(result)["applied"][0].update(reason=LEAK.upper())),
    ("prompt", lambda result, _: first(result)["verification"]["issues"].append(an_issue(LEAK))),
    ("script", lambda result, _: new(result).update(text="Покупатель видит заказ")),
    ("kept", lambda result, _: own(result).update(text="Paid.", original=own(result)["text"])),
    ("numbers", lambda result, _: new(result).update(text="It takes 2.5 seconds")),
    ("numbers", lambda result, _: own(result).update(text="12 things", original="3 things")),
]


@pytest.fixture
async def trial() -> Trial:
    return await try_case(CASE, OfflineModel(pace=0), OFFLINE)


async def test_what_is_sound_passes_every_check(trial: Trial) -> None:
    assert complaints(trial) == {name: [] for name in CHECKS}


@pytest.mark.parametrize(("check", "damage"), DAMAGES)
async def test_a_check_sees_what_it_is_there_for(trial: Trial, check: str, damage: Damage) -> None:
    result, events = orjson.loads(orjson.dumps([trial.result, trial.events]))
    told = [(EventType(kind), details) for kind, details in events]
    damage(result, told)
    assert list(CHECKS[check](CASE, result, told)) != []


def test_every_check_has_something_to_see() -> None:
    assert {check for check, _ in DAMAGES} == set(CHECKS)
    assert LEAK in PROMPTS.patching


def rewrite(result: JsonObject, old: str, new_text: str) -> None:
    assert old in result["markdown"]
    result["markdown"] = result["markdown"].replace(old, new_text)


def asking(iteration: str) -> JsonObject:
    return {"iteration": iteration, "reasons": ["verification-invalid"]}


def an_addition() -> JsonObject:
    return {"op": "add", "path": "nonGoals", "id": "NON-GOAL-2", "text": "x", "reason": "x"}


def an_issue(description: str) -> JsonObject:
    return {"severity": "info", "category": "wording", "description": description}
