"""The agent that improves a user story, iteration by iteration."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from time import monotonic

from service.agent.estimation import CHARACTERS_PER_TOKEN, Estimator, usual_steps
from service.agent.iteration_run import IterationRun, Step
from service.agent.partial_patches import PatchScanner
from service.agent.prompts import Prompts
from service.agent.replies import read_object
from service.agent.story_run import StoryRun, completion
from service.agent.submission import check_story, choose_iterations, read_story_options
from service.domain.attempt import Checkpoint
from service.domain.errors import JobFailure
from service.domain.events import EventType
from service.domain.intake import read_story
from service.domain.job import DEFAULT_AGENT, Job, JobStatus, JsonObject
from service.domain.models import DEFAULT_QUALITY, ModelChoice, choose_models
from service.domain.patches import Patch
from service.ports.agent import AgentPlan, Attempt
from service.ports.model import Model
from service.telemetry.metrics import ITERATION_SECONDS, PATCHES_REJECTED


class UserStoryAgent:
    """Drafts, verifies and if need be redoes each iteration; every call is paid once.

    Without a `model` it can plan and show jobs, not run them. `only_model` names the one model
    of an adapter that has no choice of models.
    """

    def __init__(
        self,
        model: Model | None,
        prompts: Prompts,
        *,
        only_model: str | None = None,
        today: Callable[[], date] | None = None,
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._only_model = only_model
        self._today = today

    @property
    def name(self) -> str:
        """The value of a job's `agent`."""
        return DEFAULT_AGENT

    def plan(
        self, story: str, mode: str, iterations: Sequence[str] | None, options: JsonObject
    ) -> AgentPlan:
        """Check a submission and fill in its defaults; raises `InvalidInput`."""
        check_story(story)
        read = read_story_options(options, self._today)
        chosen = choose_iterations(mode, iterations, read.product_type)
        calls = Estimator(self._prompts, len(story)).calls(chosen, usual_steps(verify=read.verify))
        return AgentPlan(
            iterations=chosen,
            options=read.as_json(),
            estimated_tokens=sum(call.usage.total for call in calls),
        )

    async def run(self, attempt: Attempt) -> JsonObject:
        """Go on where earlier attempts ended, and return the result; raises `JobFailure`."""
        if self._model is None:
            raise RuntimeError("this process has no model")
        run = self._open(attempt.job)
        failure = run.replay(attempt.checkpoints)
        attempt.emit(EventType.START, _start(attempt.job, run))
        if failure is not None:
            raise failure
        while (current := run.current) is not None:
            _announce(attempt, run, current)
            started = monotonic()
            while run.current is current:
                await self._take_step(attempt, run, current, self._model)
            iteration = current.assignment.iteration.id
            ITERATION_SECONDS.labels(iteration=iteration).observe(monotonic() - started)
        return run.result()

    def snapshot(self, job: Job, checkpoints: Mapping[str, Checkpoint]) -> JsonObject:
        """Show the job as of its last checkpoint."""
        try:
            run = self._open(job)
        except JobFailure:
            story = read_story(job.story).as_json()
            return {**_overview(job), "completed": [], "current": None, "story": story}
        run.replay(checkpoints)
        current = run.iteration if job.status is JobStatus.PROCESSING else None
        return {
            **_overview(job),
            "completed": run.completed(),
            "current": current,
            "story": run.story.as_json(),
        }

    async def _take_step(
        self, attempt: Attempt, run: StoryRun, current: IterationRun, model: Model
    ) -> None:
        step = current.due
        if step is None:
            raise ValueError("the iteration is finished")
        live = _LiveStep(attempt, current, step)
        live.announce()
        reply = await attempt.pay_once(run.step_name, model, current.request(), live.on_text)
        known = len(current.proposals)
        finished = run.receive(reply)
        _count_rejected(current, known)
        if finished is not None:
            attempt.emit(EventType.ITERATION_COMPLETE, completion(finished))

    def _open(self, job: Job) -> StoryRun:
        return StoryRun(job, self._prompts, self._models(job.options))

    def _models(self, options: JsonObject) -> ModelChoice:
        if self._only_model is not None:
            return ModelChoice(self._only_model, self._only_model)
        return choose_models(options.get("quality", DEFAULT_QUALITY), options.get("model"))


class _LiveStep:
    """Tells watchers about one call while it runs."""

    def __init__(self, attempt: Attempt, run: IterationRun, step: Step) -> None:
        self._attempt = attempt
        self._run = run
        self._step = step
        self._iteration = run.assignment.iteration.id
        self._scanner = PatchScanner()
        self._patching = run.patching()
        self._characters = 0

    def announce(self) -> None:
        """Say that an earlier proposal is void, or that it is being reviewed."""
        if self._step in {Step.REPAIR, Step.REDO}:
            details = {"iteration": self._iteration, "reason": self._step.value}
            self._attempt.emit(EventType.ITERATION_RESET, details)
        elif self._step.is_verification:
            self._progress([])

    def on_text(self, text: str) -> None:
        """Pass on each patch as soon as it is complete and accepted."""
        self._characters += len(text)
        if self._step.is_verification:
            return
        for found in self._scanner.feed(text):
            patch = self._patching.offer(read_object(found))
            if patch is not None:
                self._progress([_shown(patch)])

    def _progress(self, patches: list[JsonObject]) -> None:
        details = {
            "iteration": self._iteration,
            "phase": self._step.phase,
            "patches": patches,
            "outputTokens": self._characters // CHARACTERS_PER_TOKEN,
        }
        self._attempt.emit(EventType.ITERATION_PROGRESS, details)


def _announce(attempt: Attempt, run: StoryRun, current: IterationRun) -> None:
    """Open an iteration, with what an earlier attempt already had of it."""
    iteration = current.assignment.iteration.id
    place = {"index": len(run.finished) + 1, "total": len(attempt.job.iterations)}
    attempt.emit(EventType.ITERATION_START, {"iteration": iteration, **place})
    if current.latest.applied and current.due is not None:
        details = {
            "iteration": iteration,
            "phase": current.due.phase,
            "patches": [_shown(patch) for patch in current.latest.applied],
            "outputTokens": current.replies[-1].usage.output,
        }
        attempt.emit(EventType.ITERATION_PROGRESS, details)


def _count_rejected(current: IterationRun, known: int) -> None:
    """Count what was dropped of the proposals after the first `known`; replaying counts none."""
    iteration = current.assignment.iteration.id
    for proposal in current.proposals[known:]:
        for rejected in proposal.rejected:
            reason = rejected["rejection"]
            PATCHES_REJECTED.labels(iteration=iteration, reason=reason).inc()


def _start(job: Job, run: StoryRun) -> JsonObject:
    return {
        **_overview(job),
        "resumed": bool(run.finished or (run.current and run.current.replies)),
        "story": run.story.as_json(),
        "completed": run.completed(),
    }


def _overview(job: Job) -> JsonObject:
    return {"iterations": list(job.iterations)}


def _shown(patch: Patch) -> JsonObject:
    shown = patch.as_json()
    shown.pop("reason", None)
    return shown
