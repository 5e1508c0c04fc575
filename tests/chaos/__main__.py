"""`make chaos SEED=n JOBS=n`: everything is started here; exit code 1 unless all holds."""

import argparse
import asyncio
import shutil
import signal
import sys
from pathlib import Path
from time import monotonic

import orjson

from tests.chaos.faults.catalogue import KINDS, ROOMS
from tests.chaos.plan import make_plan
from tests.chaos.report import json_of, shortcomings, text_of
from tests.chaos.run import Run

_FOLDER = Path("build/chaos")


def main() -> int:
    """Make a plan, carry it out and print what it showed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=len(KINDS) + 15)
    parser.add_argument("--only", help="kinds of faults to draw from, separated by commas")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    asked = parser.parse_args()
    rooms = {name: ROOMS[name] for name in asked.only.split(",")} if asked.only else ROOMS
    plan = make_plan(asked.seed, asked.jobs, asked.faults, rooms)
    folder = (_FOLDER / str(asked.seed)).absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = [orjson.dumps(line) for line in plan.as_json_lines()]
    (folder / "plan.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    begun = monotonic()

    def say(text: str) -> None:
        print(f"[{monotonic() - begun:6.1f}] {text}", file=sys.stderr, flush=True)

    say(
        f"seed {plan.seed}: {len(plan.jobs)} jobs and {len(plan.faults)} faults"
        f" in {plan.seconds:.0f} s; logs and plan in {folder}"
    )
    run = Run(plan, say)
    asyncio.run(_carry_out(run, folder))
    (folder / "summary.json").write_bytes(orjson.dumps(json_of(run), option=orjson.OPT_INDENT_2))
    if asked.json:
        print(orjson.dumps(json_of(run)).decode())
    else:
        print(text_of(run))
    failures = shortcomings(run)
    violations = sum(len(verdict.violations) for verdict in run.verdicts)
    for failure in failures:
        print(f"FAILED: {failure}")
    print(
        f"seed {plan.seed}: {len(plan.jobs)} jobs, {len(run.injuries)} faults,"
        f" {violations} violations, {run.seconds:.0f} s"
    )
    return 1 if violations or failures else 0


async def _carry_out(run: Run, folder: Path) -> None:
    """Carry the plan out; asked to leave, take all processes along."""
    work = asyncio.ensure_future(run.carry_out(folder))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    await work


if __name__ == "__main__":
    sys.exit(main())
