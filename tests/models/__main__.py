"""`python -m tests.models`: how much was looked at, and what each mutant comes to."""

import argparse
import sys
from collections.abc import Mapping, Sequence

from tests.models.explore import Violation, explore
from tests.models.moves import Scope
from tests.models.mutants import MUTANTS
from tests.models.scopes import LARGE, SMALL


def main() -> int:
    """Explore, and print; exit code 1 unless the rules hold and every mutant is caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.models", description=__doc__)
    parser.add_argument("--scope", choices=["small", "large"], default="small")
    parser.add_argument("--traces", action="store_true", help="print the counterexamples")
    asked = parser.parse_args()
    violations = _explore_all(LARGE if asked.scope == "large" else SMALL)
    survivors = _break_all(traces=asked.traces)
    print(f"\n{violations} violations, {len(MUTANTS) - survivors} of {len(MUTANTS)} mutants caught")
    return 1 if violations or survivors else 0


def _explore_all(scopes: Mapping[str, Sequence[Scope]]) -> int:
    width, total, violations = max(map(len, scopes)), 0, 0
    print(f"{'scope':{width}}    states     moves  violations")
    for name, bounds in scopes.items():
        explored = [explore(scope) for scope in bounds]
        states = sum(each.states for each in explored)
        moves = sum(each.made.total() for each in explored)
        found = [each.violation for each in explored if each.violation is not None]
        print(f"{name:{width}}  {states:8}  {moves:8}  {len(found)}", flush=True)
        for violation in found:
            _print_trace(violation)
        total += states
        violations += len(found)
    print(f"{'together':{width}}  {total:8}")
    return violations


def _break_all(*, traces: bool) -> int:
    survivors, width = 0, max(map(len, MUTANTS))
    print(f"\n{'mutant':{width}} | violated invariant | steps of the shortest counterexample")
    for name, mutant in MUTANTS.items():
        violation = explore(mutant.scope).violation
        if violation is None:
            survivors += 1
            print(f"{name:{width}} | SURVIVES")
            continue
        survivors += violation.invariant != mutant.breaks
        print(f"{name:{width}} | {violation.invariant} | {len(violation.trace)}")
        if traces:
            _print_trace(violation)
    return survivors


def _print_trace(violation: Violation) -> None:
    print(f"    broken: {violation.invariant}")
    for number, sentence in enumerate(violation.trace, start=1):
        print(f"    {number:3} {sentence}")


if __name__ == "__main__":
    sys.exit(main())
