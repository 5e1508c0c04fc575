"""`make evaluate`: runs all stories through a writer and judges what it makes of them.

Claude where ANTHROPIC_API_KEY is set, which costs money; else the offline rules. Exit code 1 if
anything fails.
"""

import argparse
import asyncio
import os
import sys

import orjson

from service.agent.anthropic_model import DEFAULT_BASE_URL, AnthropicModel
from service.agent.offline_model import OFFLINE, OfflineModel
from tests.evaluation.bad_model import BAD, BadModel
from tests.evaluation.cases import Case, read_cases
from tests.evaluation.economy import bills, broken_bounds, table_of, workflows
from tests.evaluation.report import failures_of, text_of
from tests.evaluation.trials import TODAY, Trial, try_all

_CLAUDE = "anthropic"


def main() -> int:
    """Run the stories whose names contain one of the arguments, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of those to run; all if none")
    usual = _CLAUDE if os.environ.get("ANTHROPIC_API_KEY") else OFFLINE
    parser.add_argument("--model", choices=[OFFLINE, _CLAUDE, BAD], default=usual)
    parser.add_argument("--json", action="store_true", help="print results and failures as JSON")
    parser.add_argument(
        "--economy",
        action="store_true",
        help="count what workflows cost in patches and in rewritten stories; calls nobody",
    )
    asked = parser.parse_args()
    if asked.economy:
        return asyncio.run(_economise())
    cases = [
        case
        for case in read_cases()
        if not asked.names or any(part in case.id for part in asked.names)
    ]
    print(f"{len(cases)} stories through {asked.model}", file=sys.stderr, flush=True)
    trials = asyncio.run(_try(cases, asked.model))
    failures = failures_of(trials)
    if asked.json:
        shown = [
            {"story": trial.case.id, "failures": failures[trial.case.id], "result": trial.result}
            for trial in trials
        ]
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print(text_of(trials, failures))
    return 1 if any(failures.values()) or not trials else 0


async def _economise() -> int:
    cases = workflows()
    without = await bills(cases, verify=False)
    with_reviews = await bills(cases, verify=True)
    print(table_of(without, with_reviews, len(cases)))
    broken = [*broken_bounds(without, verify=False), *broken_bounds(with_reviews, verify=True)]
    for bound in broken:
        print(f"FAILED: {bound}")
    return 1 if broken else 0


async def _try(cases: list[Case], model: str) -> list[Trial]:
    if model == OFFLINE:
        return await try_all(cases, OfflineModel(pace=0), OFFLINE)
    if model == BAD:
        return await try_all(cases, BadModel(), BAD)
    claude = AnthropicModel(
        os.environ.get("ANTHROPIC_API_KEY"),
        today=lambda: TODAY,
        base_url=os.environ.get("ANTHROPIC_BASE_URL", DEFAULT_BASE_URL),
    )
    try:
        return await try_all(cases, claude, None)
    finally:
        await claude.close()


if __name__ == "__main__":
    sys.exit(main())
