"""All stories through the writer that needs no key, through a bad one, and over the wire."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from service.agent.anthropic_model import AnthropicModel
from service.agent.model_stub import ModelStub
from service.agent.offline_model import OFFLINE, OfflineModel
from service.domain.iterations import PRODUCT_TYPES
from tests.evaluation.bad_model import BAD, BadModel
from tests.evaluation.cases import find_case, read_cases
from tests.evaluation.report import failures_of, text_of
from tests.evaluation.trials import TODAY, try_all, try_case
from tests.fixtures.attempts import ScriptedModel
from tests.fixtures.readme import ROOT

CASES = read_cases()
# What only the writer can spoil; everything else the service guards, whoever writes.
SPOILT = {"asks", "orders", "prompt", "script", "kept", "numbers"}


def test_the_stories_are_many_and_varied() -> None:
    kinds = Counter(case.kind for case in CASES)
    assert len(CASES) >= 40
    assert kinds["hostile"] >= 12
    assert {"web", "mobile", "api", "language", "long", "short"} <= kinds.keys()
    assert {case.options.get("productType") for case in CASES} >= set(PRODUCT_TYPES)
    assert max(len(case.story.encode()) for case in CASES) > 50_000


async def test_the_offline_writer_passes_every_check_on_every_story() -> None:
    trials = await try_all(CASES, OfflineModel(pace=0), OFFLINE)
    failures = failures_of(trials)
    assert {case: failed for case, failed in failures.items() if failed} == {}
    assert text_of(trials, failures).endswith(f"{len(CASES)} stories pass all of 15 checks")


async def test_a_bad_writer_turns_the_table_red_and_spoils_nothing_that_is_guarded() -> None:
    trials = await try_all(CASES, BadModel(), BAD)
    failures = failures_of(trials)
    assert {check for failed in failures.values() for check in failed} == SPOILT
    for case in CASES:
        assert bool(failures[case.id]) is not case.is_refused
        if any(marker in case.story for marker in case.markers):
            assert "orders" in failures[case.id]
    shown = text_of(trials, failures)
    assert "FAIL" in shown
    assert shown.endswith("failed: asks, orders, prompt, script, kept, numbers")


async def test_over_the_wire_all_is_kept_but_what_a_stand_in_cannot_know(
    model_stub: ModelStub,
) -> None:
    model = AnthropicModel("key", today=lambda: TODAY, base_url=model_stub.address)
    cases = [case for case in CASES if case.kind in {"language", "hostile", "short"}]
    failures = failures_of(await try_all(cases, model, None))
    await model.close()
    found = {(case, check) for case, failed in failures.items() for check in failed}
    # The stand-in writes English.
    assert {check for _, check in found} == {"script"}
    assert {find_case(case).kind for case, _ in found} == {"language"}


async def test_a_story_without_a_result_has_failed() -> None:
    model = ScriptedModel({"user-roles/draft": "no", "user-roles/repair": "no"})
    trial = await try_case(find_case("web-search"), model, None)
    [(check, [complaint])] = failures_of([trial])["web-search"].items()
    assert check == "steps"
    assert complaint.startswith("MODEL_OUTPUT_INVALID")


@pytest.mark.parametrize(("model", "code"), [("offline", 0), ("bad", 1)])
def test_the_command_says_by_its_exit_code_whether_all_is_well(model: str, code: int) -> None:
    ran = evaluate("--model", model, "web-search", "whitespace")
    assert (ran.returncode, ran.stderr) == (code, f"2 stories through {model}\n")
    assert ran.stdout.startswith("story ")


def test_nothing_looked_at_is_not_well() -> None:
    assert evaluate("no-such-story").returncode == 1


def evaluate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if "ANTHROPIC" not in key}
    return subprocess.run(
        [sys.executable, "-m", "tests.evaluation", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
