"""A whole job replayed from its finished calls: where it stands, and its result."""

from collections.abc import Mapping, Sequence

from service.agent.iteration_run import IterationRun, Step
from service.agent.prompting import Assignment
from service.agent.prompts import Prompts
from service.domain.attempt import Checkpoint
from service.domain.errors import JobFailure
from service.domain.intake import read_story
from service.domain.iterations import find_iteration
from service.domain.job import Job, JsonObject
from service.domain.markdown import render_markdown
from service.domain.models import ModelChoice
from service.domain.patches import Operation
from service.domain.spending import models_of, spent
from service.domain.story import Story


class StoryRun:
    """One job's iterations in order; a pure function of the job and the replies received."""

    def __init__(self, job: Job, prompts: Prompts, models: ModelChoice) -> None:
        self._job = job
        self._prompts = prompts
        self._models = models
        self.finished: list[IterationRun] = []
        self.story = read_story(job.story)
        self.current = self._open(self.story)

    @property
    def step(self) -> Step | None:
        """The call that is due, or None when the job is done."""
        return self.current.due if self.current else None

    @property
    def step_name(self) -> str:
        """The name under which the due call's checkpoint is kept."""
        return f"{self.iteration}/{self.step}"

    @property
    def iteration(self) -> str | None:
        """The iteration at work, or None when the job is done."""
        return self.current.assignment.iteration.id if self.current else None

    def receive(self, reply: Checkpoint) -> IterationRun | None:
        """Take in the due call's reply; return the iteration if that finished it."""
        run = self.current
        if run is None:
            raise ValueError("the job is done")
        run.receive(reply)
        if run.due is not None:
            return None
        self.finished.append(run)
        self.story = run.kept.story
        self.current = self._open(self.story)
        return run

    def replay(self, checkpoints: Mapping[str, Checkpoint]) -> JobFailure | None:
        """Receive all replies that are written down; return the failure they lead to, if any."""
        try:
            while self.step is not None and self.step_name in checkpoints:
                self.receive(checkpoints[self.step_name])
        except JobFailure as failure:
            return failure
        return None

    def completed(self) -> list[JsonObject]:
        """Describe the finished iterations as `iteration:complete` events do."""
        return [completion(run) for run in self.finished]

    def result(self) -> JsonObject:
        """The job's result, once nothing is due."""
        replies = [reply for run in self.finished for reply in run.replies]
        result: JsonObject = {
            "story": self.story.as_json(),
            "markdown": render_markdown(self.story, self._job.story, _origins(self.finished)),
            "originalStory": self._job.story,
            "iterations": [_summary(run) for run in self.finished],
        }
        reviews = _reviews(self.finished)
        if reviews:
            result["needsReview"] = reviews
        return {**result, **spent(replies), "models": models_of(replies)}

    def _open(self, story: Story) -> IterationRun | None:
        if len(self.finished) == len(self._job.iterations):
            return None
        iteration = find_iteration(self._job.iterations[len(self.finished)])
        if iteration is None:
            raise JobFailure("PROCESSING_ERROR", "the job names an iteration that no longer exists")
        options = self._job.options
        product = {
            "type": options.get("productType"),
            **(options.get("productContext") or {}),
        }
        assignment = Assignment(
            iteration=iteration,
            story=story,
            original=self._job.story,
            product={key: value for key, value in product.items() if value},
            verify=options.get("verify", True),
            models=self._models,
            prompts=self._prompts,
        )
        return IterationRun(assignment)


def completion(run: IterationRun) -> JsonObject:
    """The details of an `iteration:complete` event."""
    kept = run.kept
    return {
        "iteration": run.assignment.iteration.id,
        "applied": [patch.as_json() for patch in kept.applied],
        "rejected": list(kept.rejected),
        "verification": kept.verification.as_json() if kept.verification else None,
        **spent(run.replies),
    }


def _summary(run: IterationRun) -> JsonObject:
    details = completion(run)
    return {"id": details.pop("iteration"), **details}


def _origins(runs: Sequence[IterationRun]) -> dict[str, str]:
    """Return which iteration added each item, by id."""
    return {
        patch.id: run.assignment.iteration.id
        for run in runs
        for patch in run.kept.applied
        if patch.op is Operation.ADD and patch.id is not None
    }


def _reviews(runs: Sequence[IterationRun]) -> list[JsonObject]:
    return [
        {"iteration": run.assignment.iteration.id, "reasons": [r.value for r in run.reviews]}
        for run in runs
        if run.reviews
    ]
