"""Commands that talk to a running service about jobs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from uuid import UUID

import typer

from service.cli.exit_codes import ExitCode
from service.cli.failures import Failure
from service.cli.options import After, AsJson, JobId, Workflow
from service.cli.output import note, print_json, show, table, this_command
from service.domain.job import JobStatus
from service.domain.models import DEFAULT_QUALITY, PRESETS

if TYPE_CHECKING:
    from service.cli.endings import Ending
    from service.client.documents import JobSummary

_STDIN = "-"
_SHOWN_OF_STORY = 50


def submit(
    source: Annotated[
        str, typer.Argument(metavar="FILE|-", help="A file with the story; - reads standard input.")
    ],
    iterations: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Iterations to run, separated by commas."),
    ] = None,
    workflow: Workflow = None,
    quality: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(PRESETS)}; {DEFAULT_QUALITY} unless given."),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not check what each iteration wrote.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Watch the job and print its result.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a story."""
    from service.cli import remote

    if iterations is not None and workflow is not None:
        raise typer.BadParameter("--workflow runs all its iterations: leave out --iterations")
    options: dict[str, Any] = {"productType": workflow, "quality": quality}
    submission = remote.Submission(
        story=_read_story(source),
        iterations=None if iterations is None else _split(iterations),
        mode=None if workflow is None else "workflow",
        options={key: value for key, value in options.items() if value is not None}
        | ({"verify": False} if no_verify else {}),
    )
    if follow:
        job_id, ending = remote.submit_and_follow(submission, as_json=as_json)
        _finish(job_id, ending, as_json=as_json)
    accepted = remote.ask(submission.send)
    if as_json:
        print_json(accepted)
        return
    accepted_id, ahead = accepted["job"]["id"], accepted.get("queuePosition")
    show(accepted_id + (f", {ahead} ahead of it" if ahead else ""))
    note(f"watch it with: {this_command()} watch {accepted_id}")


def watch(job_id: JobId, after: After = None, as_json: AsJson = False) -> None:
    """Follow a job, from its start, to its end."""
    from service.cli import remote

    ending = remote.follow(job_id, after=after, as_json=as_json)
    _finish(job_id, ending, as_json=as_json)


def result(
    job_id: JobId,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the improved story and nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a job's result."""
    from service.cli import following, remote
    from service.cli.endings import Ending

    job = remote.ask(lambda client: client.get(job_id))
    ending = Ending.of_job(job)
    if as_json:
        print_json({key: job.get(key) for key in ("id", "status", "result", "error")})
    elif ending is None:
        raise Failure(
            f"the job is {job['status']}; watch it with: {this_command()} watch {job_id}",
            ExitCode.JOB_NOT_ENDED,
        )
    elif markdown and ending.markdown:
        show(ending.markdown.rstrip("\n"))
    else:
        following.report(ending, job_id)
    raise typer.Exit(ExitCode.JOB_NOT_ENDED if ending is None else ending.code)


def list_jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs that stand there.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    from service.cli import remote

    page = remote.ask(
        lambda client: client.list_jobs(
            status=status.value if status else None, limit=limit, cursor=cursor
        )
    )
    if as_json:
        print_json(page)
        return
    if not page["jobs"]:
        note("no jobs")
        return
    show(table([("ID", "STATUS", "SUBMITTED", "STORY"), *map(_row, page["jobs"])]))
    if page.get("nextCursor"):
        note(f"older ones: {this_command()} jobs --cursor {page['nextCursor']}")


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job; what its model calls have cost so far stays paid."""
    from service.cli import remote

    cancelled = remote.ask(lambda client: client.cancel(job_id))
    if as_json:
        print_json(cancelled)
    else:
        show(f"{job_id} is cancelled")


def purge(
    job_id: JobId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a job that has ended: story, result and events; a terminal is asked first."""
    from service.cli import remote

    if not yes and sys.stdin.isatty() and not typer.confirm(f"Erase {job_id} for good?", err=True):
        note("nothing is erased")
        return
    purged = remote.ask(lambda client: client.purge(job_id))
    if as_json:
        print_json(purged)
    else:
        show(f"{job_id} is erased")


def _finish(job_id: UUID, ending: "Ending", *, as_json: bool) -> NoReturn:
    from service.cli.following import report

    if not as_json:
        report(ending, job_id)
    raise typer.Exit(ending.code)


def _read_story(source: str) -> str:
    try:
        if source == _STDIN:
            if sys.stdin.isatty():
                note("type the story; Ctrl-D on an empty line ends it")
            return sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
        return Path(source).read_text(encoding="utf-8-sig").rstrip("\n")
    except UnicodeDecodeError:
        raise Failure(f"{source} is not UTF-8 text", ExitCode.USAGE) from None
    except FileNotFoundError:
        raise Failure(
            f"there is no file {source!r}; to submit a text, pipe it:"
            f" echo '...' | {this_command()} submit -",
            ExitCode.USAGE,
        ) from None
    except OSError as error:
        raise Failure(f"cannot read {source}: {error.strerror}", ExitCode.USAGE) from None


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _row(job: "JobSummary") -> tuple[str, str, str, str]:
    story = " ".join(job["story"].split())
    if len(story) > _SHOWN_OF_STORY:
        story = f"{story[: _SHOWN_OF_STORY - 1]}…"
    submitted = job["createdAt"][:19].replace("T", " ")
    return job["id"], job["status"], submitted, story
