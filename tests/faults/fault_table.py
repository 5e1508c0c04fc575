"""Renders FAULTS.md from its data: `python -m tests.faults.fault_table` writes it anew."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from tests.faults.model_faults import DONE, GROUPS, Call, ModelFault

PATH: Final = Path(__file__).parents[1] / "FAULTS.md"

_HEAD: Final = """\
# Faults of the model

What comes of each fault of the Claude API. Every line is a test: `test_model_faults.py` runs a job
of one iteration through an API, a worker, Valkey and Postgres, and lets its first calls meet the
fault. This file is written by `python -m tests.faults.fault_table`.

A job has a budget of three errors. `retrying` tells its watchers when it starts again; that is not
earlier than Retry-After asks for, and not later than in five minutes, or ten where an operator has
to change something first. Finished calls are kept, and not paid again. “As usual” is a draft and
its verification, both booked as they were billed.
"""
_COLUMNS: Final = ("fault", "what the user sees", "what the ledger says", "retried")


def document() -> str:
    """Return the whole of FAULTS.md."""
    return "\n".join((_HEAD, *(_section(name, faults) for name, faults in GROUPS.items())))


def _section(name: str, faults: Sequence[ModelFault]) -> str:
    rows = (_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, faults))
    return "\n".join((f"## {name}\n", *(f"| {' | '.join(cells)} |" for cells in rows), ""))


def _cells(fault: ModelFault) -> tuple[str, ...]:
    return fault.name, _seen(fault), "; ".join(_ledger(fault.calls)), _retried(fault)


def _seen(fault: ModelFault) -> str:
    retrying = "`retrying` (MODEL_UNAVAILABLE), " if fault.waits else ""
    if fault.error is not None:
        return f"{retrying}failed: {fault.error}, “{fault.says} ...”"
    review = f", `needsReview` ({fault.review})" if fault.review else ""
    return f"{retrying}completed{review}"


def _ledger(calls: Sequence[Call]) -> Iterator[str]:
    is_as_usual = tuple(calls[-len(DONE) :]) == DONE
    for call, group in groupby(calls[: -len(DONE)] if is_as_usual else calls):
        times = len(list(group))
        yield f"{times} times {call}" if times > 1 else str(call)
    if is_as_usual:
        yield "then as usual" if len(calls) > len(DONE) else "as usual"


def _retried(fault: ModelFault) -> str:
    return ", then ".join(map(str, fault.waits)) if fault.waits else "no"


if __name__ == "__main__":
    PATH.write_text(document())
