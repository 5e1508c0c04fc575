"""Results as Markdown, byte for byte; USA_TEST_GOLDEN=write writes them anew."""

import os
from pathlib import Path
from typing import Final

import pytest

from service.agent.offline_model import OFFLINE, OfflineModel
from service.domain.job import JsonObject
from service.ports.model import Model
from tests.evaluation.cases import Case, find_case
from tests.evaluation.trials import try_case
from tests.fixtures.attempts import ScriptedModel, added, drafted, reviewed

FOLDER: Final = Path(__file__).parent / "golden"
IS_WRITING: Final = os.environ.get("USA_TEST_GOLDEN") == "write"
SHOWN: Final = (
    "api-rate-limit",
    "arabic-login",
    "german-order",
    "hostile-backticks",
    "hostile-html",
    "hostile-markdown",
    "mobile-scan-ticket",
    "one-question-mark",
    "web-checkout",
    "web-delete-account",
)


@pytest.mark.parametrize("case_id", SHOWN)
async def test_the_offline_writers_markdown_is_what_it_was(case_id: str) -> None:
    markdown = await markdown_of(find_case(case_id), OfflineModel(pace=0), OFFLINE)
    assert markdown == golden(case_id, markdown)


async def test_what_was_reworded_and_merged_is_shown_as_it_was() -> None:
    system = "systemAcceptanceCriteria"
    model = ScriptedModel(
        {
            "user-roles/draft": drafted(
                {"op": "replace", "path": "story.asA", "text": "registered customer"},
                added("Given a guest, when they try, then they are asked to sign in."),
            ),
            "validation/draft": drafted(
                added("Given a guest, when they try to, then they must sign in."),
                added("Given a lost answer, when it is sent again, then it counts once.", system),
            ),
            "security/draft": drafted(
                added("Given two equal requests, when both come, then one counts.", system),
                merging(system, "AC-SYS-1", "AC-SYS-2", text="Given equal requests, one counts."),
                added("Keep [secrets] out of <logs> & “pages”.", "implementationNotes.security"),
            ),
            "security/verify": reviewed(0.5),
            "consolidation/draft": drafted(
                merging(
                    "outcomeAcceptanceCriteria",
                    "AC-OUT-2", "AC-OUT-3", "AC-OUT-4",
                    text="Given a guest, when they try, then they sign in and see no password.",
                )
            ),
        }
    )  # fmt: skip
    markdown = await markdown_of(find_case("web-sign-in"), model, None)
    assert markdown == golden("merged", markdown)


def test_there_is_no_golden_file_without_a_test() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*SHOWN, "merged"}


async def markdown_of(case: Case, model: Model, only_model: str | None) -> str:
    trial = await try_case(case, model, only_model)
    assert trial.result is not None, trial.failure
    markdown: str = trial.result["markdown"]
    return markdown


def golden(name: str, markdown: str) -> str:
    path = FOLDER / f"{name}.md"
    if IS_WRITING:
        path.write_bytes(markdown.encode())
    return path.read_bytes().decode()


def merging(path: str, *ids: str, text: str) -> JsonObject:
    return {"op": "merge", "path": path, "ids": list(ids), "text": text}
