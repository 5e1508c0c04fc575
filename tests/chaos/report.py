"""What a run showed, as a table for people and as JSON for machines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf
from typing import Any, Final

from tests.chaos.faults.catalogue import KINDS
from tests.chaos.faults.injury import Injury
from tests.chaos.recovery import History, waits_after, waits_after_handback
from tests.chaos.run import Run

_SHOWN = 5
_MARGIN = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault: how often, what it hit, and how long recovery took."""

    kind: str
    times: int
    evidence: int
    seconds: tuple[float, ...]
    bound: float | None

    @property
    def is_slow(self) -> bool:
        """Whether recovery took longer than is allowed, now and then."""
        return self.bound is not None and quantile(self.seconds, 0.99) > self.bound


# Without these a run proves nothing: (what must have been seen, metric, labels).
GUARDS: Final[Sequence[tuple[str, str, Mapping[str, str]]]] = (
    ("fenced writes", "usa_writes_fenced_total", {}),
    ("claims of entries that needed none", "usa_jobs_claimed_total", {"verdict": "terminal"}),
    (
        "claims refused by a lease",
        "usa_jobs_claimed_total",
        {"verdict": "leased_through_another_entry"},
    ),
    ("repairs by the reconciler", "usa_reconcile_repairs_total", {}),
    ("entries added by the relay", "usa_relay_entries_total", {}),
    ("retried attempts", "usa_attempts_ended_total", {"ending": "retried"}),
    ("hand-backs", "usa_attempts_ended_total", {"ending": "handed_back"}),
    ("resynchronised watchers", "usa_sse_resyncs_total", {}),
    ("calls paid again after a crash", "usa_model_calls_repeated_total", {}),
)


def rows_of(run: Run) -> list[Row]:
    """One row per kind, in the order of their names."""
    by_kind: dict[str, list[Injury]] = defaultdict(list)
    for injury in run.injuries:
        by_kind[injury.kind].append(injury)
    return [_row(kind, by_kind[kind], run.history) for kind in sorted(by_kind)]


def _row(kind: str, injuries: Sequence[Injury], history: History) -> Row:
    seconds = [s for injury in injuries for s in _recoveries(injury, history)]
    evidence = sum(injury.evidence for injury in injuries)
    return Row(kind, len(injuries), evidence, tuple(seconds), KINDS[kind].bound)


def _recoveries(injury: Injury, history: History) -> Iterable[float]:
    kind = KINDS[injury.kind]
    if kind.bound is None:
        return ()
    if kind.from_hand_back:
        until = injury.until + _MARGIN
        return waits_after_handback(history, injury.held, injury.since, until)
    return [*injury.seconds, *waits_after(history, injury.held, injury.since)]


def takeovers(history: History) -> int:
    """How often a job was claimed while its row said that another worker ran it."""
    return sum(
        before.status == after.status == "processing" and after.attempt > before.attempt
        for steps in history.values()
        for before, after in pairwise(steps)
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 for none."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)] if values else 0.0


def shortcomings(run: Run) -> list[str]:
    """Why the run failed, besides violations: faults without effect, slow recoveries."""
    found = []
    for row in rows_of(run):
        if not row.evidence:
            found.append(f"{row.kind} had no effect")
        if row.is_slow:
            p99 = quantile(row.seconds, 0.99)
            found.append(f"{row.kind}: recovery p99 {p99:.1f} s, allowed {row.bound:g} s")
    if {injury.kind for injury in run.injuries} < KINDS.keys():
        return found
    if not takeovers(run.history):
        found.append("no worker took a job over from another")
    if run.counted is not None:
        found += [
            f"no {what} were seen"
            for what, metric, labels in GUARDS
            if not run.counted.total(metric, **labels)
        ]
    return found


def text_of(run: Run) -> str:
    """The whole report."""
    return "\n".join([*_fault_lines(run), "", *_seen_lines(run), "", *_verdict_lines(run)])


def _fault_lines(run: Run) -> Iterable[str]:
    yield f"{'fault':32}{'times':>6}{'hit':>7}{'p50 s':>8}{'p99 s':>8}{'allowed':>9}"
    for row in rows_of(run):
        numbers = (
            f"{quantile(row.seconds, 0.5):8.2f}{quantile(row.seconds, 0.99):8.2f}{row.bound:9g}"
            if row.bound is not None
            else ""
        )
        yield f"{row.kind:32}{row.times:6}{row.evidence:7}{numbers}"
    kinds = len({injury.kind for injury in run.injuries})
    yield f"{len(run.injuries)} faults of {kinds} kinds"


def _seen_lines(run: Run) -> Iterable[str]:
    counted, clients = run.counted, run.clients
    if counted is None or clients is None:
        return
    yield f"{takeovers(run.history):8} jobs taken over from another worker"
    for what, metric, labels in GUARDS:
        yield f"{counted.total(metric, **labels):8} {what}"
    for metric, label in (
        ("usa_writes_fenced_total", "write"),
        ("usa_reconcile_repairs_total", "repair"),
        ("usa_jobs_claimed_total", "verdict"),
    ):
        shares = counted.by_label(metric, label).items()
        yield f"{metric}: " + ", ".join(f"{name} {number}" for name, number in shares)
    refused = ", ".join(f"{what}: {number}" for what, number in clients.refusals.most_common())
    yield f"answers that were errors: {refused or 'none'}"
    reconnections = sum(max(0, watcher.connections - 1) for watcher in run.watchers)
    yield f"{len(run.watchers)} watchers, {reconnections} reconnections"
    statuses = [answer.status for answer in clients.cancellations.values()]
    yield f"{statuses.count(200)} cancelled, {statuses.count(409)} too late"
    yield f"{len(clients.redriven)} jobs redriven, {run.model_calls} model calls"


def _verdict_lines(run: Run) -> Iterable[str]:
    for verdict in run.verdicts:
        count = len(verdict.violations)
        state = "holds" if not count else f"{count} VIOLATIONS"
        yield f"{verdict.name:6} {verdict.meaning:58} {verdict.looked:8} looks  {state}"
        for subject, what in verdict.violations[:_SHOWN]:
            yield f"         {subject}: {what}"
    for nonce in _violated_jobs(run)[:_SHOWN]:
        yield from ("", f"what happened to {nonce}:", *run.timelines.get(nonce, ()))


def _violated_jobs(run: Run) -> list[str]:
    subjects = [subject for verdict in run.verdicts for subject, _ in verdict.violations]
    return [subject for subject in dict.fromkeys(subjects) if subject in run.timelines]


def json_of(run: Run) -> dict[str, Any]:
    """The same for machines."""
    return {
        "seed": run.plan.seed,
        "jobs": len(run.plan.jobs),
        "seconds": round(run.seconds, 1),
        "restSeconds": round(run.rest_seconds, 1),
        "faults": [
            {
                "kind": row.kind,
                "times": row.times,
                "hit": row.evidence,
                "p50": _finite(quantile(row.seconds, 0.5)),
                "p99": _finite(quantile(row.seconds, 0.99)),
                "allowed": row.bound,
            }
            for row in rows_of(run)
        ],
        "invariants": {
            verdict.name: {"looks": verdict.looked, "violations": verdict.violations}
            for verdict in run.verdicts
        },
        "shortcomings": shortcomings(run),
    }


def _finite(value: float) -> float | None:
    return None if value == inf else round(value, 3)
