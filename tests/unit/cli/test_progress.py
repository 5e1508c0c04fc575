"""What a person reads while a job runs and when it has ended."""

import io
import json
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from service.cli.display import JsonLines, PlainLines, choose_display
from service.cli.endings import Ending, dollars
from service.cli.exit_codes import ExitCode
from service.cli.live import LiveProgress
from service.cli.output import printable, table
from service.cli.progress import lines_of
from service.client.event_stream import StreamEvent
from service.domain.events import EventType
from service.domain.job import JobStatus, JsonObject

JOB = UUID("01a21088-29e1-77e7-bdbc-91ca6407d65d")
PATCH = {"op": "add", "path": "edgeCases", "id": "EDGE-1", "text": "The network\nis away"}
RESULT: JsonObject = {
    "markdown": "# Log in\n",
    "models": ["claude-sonnet-5-5", "claude-haiku-5-5"],
    "costUsd": 0.0421,
    "durationMs": 61_500,
    "tokenUsage": {"input": 9000, "output": 2000, "cacheRead": 0, "cacheWrite": 0},
}
OFFLINE: JsonObject = {**RESULT, "models": ["offline"], "costUsd": 0.0}


def event(event_type: str, event_id: str | None = "1-1", **data: Any) -> StreamEvent:
    return StreamEvent(event_id, event_type, {"type": event_type, "jobId": str(JOB), **data})


def completed(iteration: str, **data: Any) -> StreamEvent:
    usual = {"applied": [PATCH], "durationMs": 3100, "costUsd": 0.0, "verification": None}
    details: dict[str, Any] = {"iteration": iteration, **usual, **data}
    return event("iteration:complete", **details)


START = event("start", iterations=["validation", "security"], resumed=False)
STORY = [
    event("connected", None, status="queued", iterations=["validation", "security"]),
    START,
    event("iteration:start", iteration="validation", index=1, total=2),
    event("iteration:progress", iteration="validation", phase="draft", patches=[PATCH]),
    event("iteration:progress", iteration="validation", phase="verify", patches=[]),
    event("iteration:reset", iteration="validation", reason="redo"),
    completed("validation", verification={"passed": True, "score": 0.9}, costUsd=0.01),
    event("retrying", reason="error", code="MODEL_UNAVAILABLE", availableAt="2030-01-01T00:00:00Z"),
    event("waiting", reason="quota", until="2030-01-01T00:00:00Z"),
    event("start", iterations=["validation", "security"], resumed=True, completed=[{}]),
    event("resync", None, iterations=[]),
]


def test_events_become_lines() -> None:
    assert [line for each in STORY for line in lines_of(each)] == [
        f"job {JOB} is queued",
        "started: validation, security",
        "validation (1 of 2)",
        "  + EDGE-1  The network is away",
        "  checking what was written",
        "  writing this again (redo)",
        "  done: 1 change, check passed (0.90), 3.1 s, $0.0100",
        "interrupted (MODEL_UNAVAILABLE); going on at 2030-01-01T00:00:00Z",
        "waiting until 2030-01-01T00:00:00Z: quota",
        "resumed after 1 of 2 iterations: validation, security",
        "some events were lost; going on from the last checkpoint",
    ]


def test_events_of_a_later_version_are_passed_over() -> None:
    assert list(lines_of(event("iteration:weather"))) == []


def test_a_merge_names_what_went_into_it() -> None:
    merged = {"op": "merge", "path": "edgeCases", "ids": ["EDGE-1", "EDGE-2"], "text": "x"}
    progress = event("iteration:progress", patches=[merged])
    assert list(lines_of(progress)) == ["  & EDGE-1, EDGE-2  x"]


def test_json_lines_hold_the_event_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonLines() as display:
        for each in STORY:
            display.show(each)
        display.note("trouble")
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == [
        {"id": each.id, "event": each.type, "data": each.data} for each in STORY
    ]
    assert printed.err == "trouble\n"


def test_plain_progress_leaves_standard_output_to_the_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with choose_display(as_json=False) as display:
        display.show(START)
    assert isinstance(display, PlainLines)
    assert capsys.readouterr() == ("", "started: validation, security\n")


def drawn(*events: StreamEvent, **console: Any) -> str:
    screen = io.StringIO()
    with LiveProgress(Console(file=screen, width=60, color_system=None, **console)) as live:
        for each in events:
            live.show(each)
    return screen.getvalue()


def test_live_progress_shows_every_iteration_with_its_state() -> None:
    security = [
        event("iteration:start", iteration="security", index=2, total=2),
        event("iteration:progress", iteration="security", phase="draft", patches=[PATCH]),
    ]
    screen = drawn(START, completed("validation"), *security)
    assert "✓ validation 1 change, 3.1 s" in screen
    assert "security   writing" in screen
    assert "+ EDGE-1  The network is away" in screen


def test_live_progress_ends_with_what_was_done() -> None:
    ended = event("complete", result=RESULT)
    screen = drawn(START, completed("validation"), completed("security"), ended)
    assert screen.count("✓") == 2
    assert "writing" not in screen


def test_live_progress_shows_trouble_above_and_takes_unknown_events() -> None:
    screen = io.StringIO()
    with LiveProgress(Console(file=screen, width=60, force_terminal=True)) as live:
        live.show(event("iteration:weather"))
        live.note("lost the connection")
        live.show(STORY[0])
    assert "lost the connection" in screen.getvalue()


EVIL = "\x1b[2J\x1b]0;title\x07\u202egnp.exe [bold]x[/bold]"


def test_text_of_a_story_never_commands_the_terminal() -> None:
    assert printable(f"a\tb\n{EVIL}") == "a\tb\n�[2J�]0;title��gnp.exe [bold]x[/bold]"
    evil = event(
        "iteration:progress", iteration="security", patches=[{**PATCH, "text": EVIL, "id": "E"}]
    )
    screen = drawn(START, evil)
    assert "[2J" in screen
    assert "[bold]x[/bold]" in screen
    assert "\x1b[2J" not in screen
    assert "\x07" not in screen


def test_an_offline_result_cannot_be_taken_for_a_models() -> None:
    told = Ending(JobStatus.COMPLETED, OFFLINE, {}).summary(JOB)
    assert "offline: rules wrote this, no model was called" in told
    assert "$0" in told
    assert "tokens" not in told


def test_a_paid_result_names_its_models_and_its_cost() -> None:
    told = Ending(JobStatus.COMPLETED, RESULT, {}).summary(JOB)
    assert "claude-sonnet-5-5, claude-haiku-5-5" in told
    assert "$0.0421 (9000 tokens read, 2000 written)" in told
    assert "61.5 s" in told


def test_a_cost_that_nobody_knows_is_not_zero() -> None:
    assert dollars(None) == "unknown"
    unknown = Ending(JobStatus.COMPLETED, {**RESULT, "costUsd": None}, {}).summary(JOB)
    assert "Cost    unknown" in unknown


def test_what_a_person_should_look_at_is_told() -> None:
    reviews = [{"iteration": "security", "reasons": ["verification-not-passed"]}]
    told = Ending(JobStatus.COMPLETED, {**RESULT, "needsReview": reviews}, {}).summary(JOB)
    assert "security needs a person's eye: verification-not-passed" in told


@pytest.mark.parametrize(
    ("event_type", "data", "code", "said"),
    [
        (EventType.COMPLETE, {"result": RESULT}, ExitCode.OK, "completed"),
        (
            EventType.ERROR,
            {"code": "MODEL_REFUSED", "message": "no"},
            ExitCode.JOB_FAILED,
            "failed: no (MODEL_REFUSED)",
        ),
        (EventType.CANCELLED, {}, ExitCode.JOB_CANCELLED, f"cancelled: {JOB}"),
    ],
)
def test_an_event_and_its_job_end_the_same_way(
    event_type: EventType, data: JsonObject, code: ExitCode, said: str
) -> None:
    ending = Ending.of_event(event_type, data)
    assert ending.code is code
    assert ending.summary(JOB).startswith(said)
    job = {"status": ending.status.value, "result": data.get("result"), "error": data or None}
    of_job = Ending.of_job(job)
    assert of_job is not None
    assert (of_job.code, of_job.markdown) == (code, ending.markdown)
    assert of_job.summary(JOB) == ending.summary(JOB)


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_a_job_that_runs_has_no_ending(status: str) -> None:
    assert Ending.of_job({"status": status}) is None


def test_a_table_is_aligned_and_has_no_spaces_at_its_ends() -> None:
    assert table([("ID", "STORY"), ("1234", "x")]) == "ID    STORY\n1234  x"
