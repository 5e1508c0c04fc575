"""How the job went: its steps, events, money and reviews."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from service.agent.replies import PASSING_SCORE
from service.domain.events import EventType
from service.domain.folding import fold
from service.domain.iterations import CONSOLIDATION, DEFAULT_ITERATIONS, ITERATIONS
from service.domain.job import JsonObject
from tests.evaluation.cases import Case
from tests.evaluation.checks.parts import Events

_CENT_OF_A_CENT = 1e-9


def runs_every_iteration(case: Case, result: JsonObject, events: Events) -> Iterator[str]:
    """All iterations that apply ran, once and in order, and were told of."""
    expected = _expected(case)
    if [each["id"] for each in result["iterations"]] != expected:
        yield "the result does not have the iterations that apply"
    starts = [details for kind, details in events if kind is EventType.ITERATION_START]
    places = [(each["iteration"], each["index"], each["total"]) for each in starts]
    if places != [(name, n + 1, len(expected)) for n, name in enumerate(expected)]:
        yield "not every iteration was announced in its place"
    ends = [details for kind, details in events if kind is EventType.ITERATION_COMPLETE]
    if [each["iteration"] for each in ends] != expected:
        yield "not every iteration was completed once"


def folds_to_the_result(_: Case, result: JsonObject, events: Events) -> Iterator[str]:
    """Whoever followed the events has the stored result."""
    view = fold(events)
    if view.story.as_json() != result["story"]:
        yield "the events lead to another story"
    told = [{"id" if k == "iteration" else k: v for k, v in d.items()} for d in view.completed]
    if told != result["iterations"]:
        yield "the events tell other iterations"


def adds_up(_: Case, result: JsonObject, _events: Events) -> Iterator[str]:
    """Tokens, costs and durations are the sums of the iterations', and the models are named."""
    parts: Sequence[JsonObject] = result["iterations"]
    for kind, total in result["tokenUsage"].items():
        if total != sum(each["tokenUsage"][kind] for each in parts) or total < 0:
            yield f"{kind} is not the sum of the iterations'"
    if result["durationMs"] != sum(each["durationMs"] for each in parts):
        yield "durationMs is not the sum of the iterations'"
    costs = [each["costUsd"] for each in parts]
    if None in costs:
        if result["costUsd"] is not None:
            yield "the cost is known although that of an iteration is not"
    elif abs(Fraction(result["costUsd"] or 0) - sum(map(Fraction, costs))) > _CENT_OF_A_CENT:
        yield "costUsd is not the sum of the iterations'"
    if not result["models"]:
        yield "no model is named"


def is_reviewed_where_it_must_be(case: Case, result: JsonObject, _: Events) -> Iterator[str]:
    """A person is asked to look at what no review has passed, and at nothing else."""
    asked = {each["iteration"]: each["reasons"] for each in result.get("needsReview", ())}
    is_verified = case.options.get("verify", True)
    for iteration in result["iterations"]:
        name, verification = iteration["id"], iteration["verification"]
        if verification is not None and verification["passed"] != _passes(verification):
            yield f"{name} passed by other rules than those that hold"
        is_open = bool(is_verified and iteration["applied"]) and not (
            verification and verification["passed"]
        )
        if is_open != bool(asked.pop(name, ())):
            yield f"{name} is marked for a person wrongly, or is not"
    yield from (f"{name} is marked for a person and did not run" for name in asked)


def _expected(case: Case) -> list[str]:
    if case.mode != "workflow":
        chosen = case.iterations or DEFAULT_ITERATIONS
        return [name for name in ITERATIONS if name in chosen]
    product = case.options["productType"]
    fitting = [each.id for each in ITERATIONS.values() if product in each.applies_to]
    return [*fitting, CONSOLIDATION.id]


def _passes(verification: JsonObject) -> bool:
    errors = any(issue["severity"] == "error" for issue in verification["issues"])
    return verification["score"] >= PASSING_SCORE and not errors
