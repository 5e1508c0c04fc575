"""One row per story, one column per check, and what failed in words."""

from collections.abc import Iterator, Sequence
from typing import Final

from tests.evaluation.checks import CHECKS
from tests.evaluation.trials import Trial, complaints

_SHOWN: Final = 3
_NARROWEST = 4


def failures_of(trials: Sequence[Trial]) -> dict[str, dict[str, list[str]]]:
    """Return all complaints, by story and then by check; those without any are left out."""
    found = {trial.case.id: complaints(trial) for trial in trials}
    return {
        case_id: {check: texts for check, texts in by_check.items() if texts}
        for case_id, by_check in found.items()
    }


def text_of(trials: Sequence[Trial], failures: dict[str, dict[str, list[str]]]) -> str:
    """Write the table, the failures and the totals."""
    return "\n".join(_lines(trials, failures))


def _lines(trials: Sequence[Trial], failures: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    widest = max((len(trial.case.id) for trial in trials), default=0)
    widths = {name: max(_NARROWEST, len(name)) for name in CHECKS}

    def row(name: str, cells: Sequence[str], last: str) -> str:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths.values(), strict=True))
        return f"{name.ljust(widest)}  {'  '.join(padded)}  {last}"

    yield row("story", list(CHECKS), "items")
    for trial in trials:
        failed = failures[trial.case.id]
        cells = ["FAIL" if name in failed else _passed(trial) for name in CHECKS]
        yield row(trial.case.id, cells, str(_items(trial)))
    sums = [sum(name in failed for failed in failures.values()) for name in CHECKS]
    yield row("failed", list(map(str, sums)), "")
    for case_id, by_check in failures.items():
        for check, texts in by_check.items():
            more = f" (and {len(texts) - _SHOWN} more)" if len(texts) > _SHOWN else ""
            yield f"{case_id}: {check}: {'; '.join(texts[:_SHOWN])}{more}"
    bad = sum(bool(by_check) for by_check in failures.values())
    red = [name for name, number in zip(CHECKS, sums, strict=True) if number]
    yield f"{len(trials) - bad} of {len(trials)} stories pass all of {len(CHECKS)} checks" + (
        f"; failed: {', '.join(red)}" if red else ""
    )


def _passed(trial: Trial) -> str:
    return "-" if trial.result is None else "ok"


def _items(trial: Trial) -> int:
    if trial.result is None:
        return 0
    return sum(len(iteration["applied"]) for iteration in trial.result["iterations"])
