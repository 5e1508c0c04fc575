"""The list of mutants keeps up with the code; `make mutants` runs them."""

import pytest

from tests.mutants.catalogue import ROOT, Mutant, read_mutants

MUTANTS = read_mutants()
INVARIANTS = {f"I{number}" for number in range(1, 12)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_still_be_made_and_its_tests_are_there(mutant: Mutant) -> None:
    assert mutant.source() != (ROOT / mutant.file).read_text()
    assert [test for test in mutant.tests if not _is_there(test)] == []


def _is_there(test: str) -> bool:
    path, _, name = test.partition("::")
    return f"def {name}(" in (ROOT / path).read_text()


def test_every_invariant_has_a_mutant() -> None:
    assert {mutant.invariant for mutant in MUTANTS} == INVARIANTS


def test_names_are_distinct() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) > 40
