"""The rules as they are hold in every state; every one of them is needed."""

import ast
import functools
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from service.domain.job import JobStatus
from service.domain.transitions import TRANSITIONS
from tests.models import __main__ as command
from tests.models.explore import Exploration, explore
from tests.models.mutants import MUTANTS, Mutant
from tests.models.rules import REAL, Rules
from tests.models.scopes import SMALL, scope

pytestmark = pytest.mark.timeout(900)

# Somewhat fewer than there are, so that a rule may change a little, and not make most unreachable.
LEAST = {
    "2 workers, 1 step, any two faults of different kinds": 150_000,
    "2 workers, 2 steps, any one fault": 2_500,
    "2 workers, 2 steps, a crash, a pause and a cancellation": 20_000,
    "2 workers, 2 steps, a crash, a flush and a cancellation": 25_000,
    "3 workers, 1 step, two pauses, or a pause and a lost reply": 35_000,
    "2 workers, 1 step, a redrive with a cancellation, or with two deaths": 60_000,
}
ACTORS = ("api", "attempt", "clock", "faults", "maintenance", "tasks", "worker")


@functools.cache
def explored(name: str) -> list[Exploration]:
    return [explore(scope) for scope in SMALL[name]]


@pytest.mark.parametrize("name", SMALL)
def test_no_state_breaks_an_invariant_and_every_state_can_end(name: str) -> None:
    assert [each.violation for each in explored(name)] == [None] * len(SMALL[name])
    assert sum(each.states for each in explored(name)) >= LEAST[name]
    assert all(each.at_rest for each in explored(name))


def test_everything_that_can_happen_happens() -> None:
    made = {text for name in SMALL for each in explored(name) for text in each.made}
    sentences = {text for actor in ACTORS for text in sentences_of(actor)}
    assert len(sentences) > 60
    # Only with a bug.
    unheard_of = {"{worker} makes its next call", "{worker} renews {entry}, whoever has it"}
    unheard_of |= {"the API sees that the job may be cancelled", "the API writes the cancellation"}
    never = {text for text in sentences if not any(text in each for each in made)}
    assert never == unheard_of


def test_the_job_goes_from_status_to_status_as_in_the_service() -> None:
    model = {pair for name in SMALL for each in explored(name) for pair in each.transitions}
    service = {(before.value, after.value) for (before, _), after in TRANSITIONS.items()}
    service |= {(status.value, status.value) for status in JobStatus}
    assert model - {("absent", "absent"), ("absent", "queued")} == service


def sentences_of(actor: str) -> set[str]:
    """Every sentence, or part of one, that an actor's moves can say."""
    tree = ast.parse((Path(__file__).parent / f"{actor}.py").read_text())
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and node not in docstrings
        and isinstance(node.value, str)
        and " " in node.value.strip()
    }


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_the_invariant_that_it_breaks(name: str) -> None:
    mutant = MUTANTS[name]
    violation = explore(mutant.scope).violation

    assert violation is not None
    assert violation.invariant == mutant.breaks
    assert violation.trace[0].startswith("the job is accepted")
    assert explore(mutant.control).violation is None


def test_every_rule_is_broken_by_a_mutant() -> None:
    assert {rule for mutant in MUTANTS.values() for rule in broken(mutant)} == {
        field.name for field in fields(Rules)
    }


def broken(mutant: Mutant) -> set[str]:
    names = {field.name for field in fields(Rules)}
    return {name for name in names if getattr(mutant.rules, name) != getattr(REAL, name)}


def test_the_report_shows_how_much_was_seen_and_how_each_mutant_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SMALL", {"no fault": [scope()]})
    monkeypatch.setattr(sys, "argv", ["models", "--traces"])
    assert command.main() == 0
    report = capsys.readouterr().out
    assert all(name in report for name in MUTANTS)
    assert f"0 violations, {len(MUTANTS)} of {len(MUTANTS)} mutants caught" in report


def test_the_report_shows_a_broken_invariant_and_the_way_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "SMALL", {"a bug": [MUTANTS["no fence at commit"].scope]})
    monkeypatch.setattr(sys, "argv", ["models"])
    assert command.main() == 1
    report = capsys.readouterr().out
    assert "broken: a cancelled job never completes" in report
    assert "worker A commits that the job is completed" in report
