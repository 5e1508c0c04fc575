"""A short run, so that the long ones can be trusted to start."""

from pathlib import Path

import pytest

from tests.chaos.faults.catalogue import ROOMS
from tests.chaos.plan import make_plan
from tests.chaos.report import rows_of, text_of
from tests.chaos.run import Run

KINDS = ("worker-killed", "redis-flushed", "backends-terminated", "watchers-moved", "redis-cut")


@pytest.mark.timeout(240)
async def test_a_few_faults_hit_and_break_nothing(tmp_path: Path) -> None:
    plan = make_plan(1, 60, len(KINDS), {kind: ROOMS[kind] for kind in KINDS})
    run = Run(plan, say=lambda _: None)
    await run.carry_out(tmp_path)
    assert {row.kind: row.evidence > 0 for row in rows_of(run)} == dict.fromkeys(KINDS, True)
    assert [verdict.violations for verdict in run.verdicts] == [[]] * len(run.verdicts), text_of(
        run
    )
    assert all(verdict.looked for verdict in run.verdicts)
