"""One iteration as a state machine without I/O: which call is due, and what its reply means."""

from dataclasses import dataclass
from enum import StrEnum

from service.agent.prompting import Assignment
from service.agent.replies import Verification, is_refusal, read_draft, read_verification
from service.domain.attempt import Checkpoint
from service.domain.errors import JobFailure
from service.domain.job import JsonObject
from service.domain.patches import Patch, Patching
from service.domain.story import Story
from service.ports.model import ModelRequest


class Step(StrEnum):
    """The calls an iteration can take, each at most once."""

    DRAFT = "draft"
    REPAIR = "repair"
    VERIFY = "verify"
    REDO = "redo"
    REVERIFY = "reverify"

    @property
    def phase(self) -> str:
        """The step as progress events name it."""
        return "verify" if self.is_verification else self.value

    @property
    def is_verification(self) -> bool:
        """Whether its reply judges patches instead of proposing them."""
        return self in {Step.VERIFY, Step.REVERIFY}


class Review(StrEnum):
    """Why a person should look at an iteration's outcome."""

    NOT_PASSED = "verification-not-passed"
    UNVERIFIED = "verification-invalid"
    REDO_UNUSABLE = "redo-unusable"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One proposal as far as it was accepted, with the story it leads to."""

    story: Story
    applied: tuple[Patch, ...]
    rejected: tuple[JsonObject, ...]
    verification: Verification | None = None


class IterationRun:
    """Call `request`, hand the reply to `receive`, until `due` is None; then `kept` counts.

    `proposals` are all that could be read, kept or not. `receive` raises `JobFailure` when the
    iteration fails for good.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.due: Step | None = Step.DRAFT
        self.replies: list[Checkpoint] = []
        self.reviews: list[Review] = []
        self.proposals: list[Candidate] = []
        self.kept = Candidate(assignment.story, (), ())
        self._redone: Candidate | None = None

    @property
    def latest(self) -> Candidate:
        """The newest proposal, whether or not it will be kept."""
        return self._redone or self.kept

    def request(self) -> ModelRequest:
        """Write the request of the step that is due."""
        match self.due:
            case Step.DRAFT:
                return self.assignment.draft()
            case Step.REPAIR:
                return self.assignment.repair(self.replies[-1].text)
            case Step.REDO:
                return self.assignment.redo(self._findings())
            case Step.VERIFY | Step.REVERIFY:
                patches = [patch.as_json() for patch in self.latest.applied]
                return self.assignment.verification(self.due.value, patches)
            case None:
                raise ValueError("the iteration is finished")

    def patching(self) -> Patching:
        """Return a fresh check of patches against the story before the iteration."""
        return Patching(self.assignment.story, self.assignment.iteration)

    def receive(self, reply: Checkpoint) -> None:
        """Take in the reply of the step that is due and decide what follows."""
        step = self.due
        self.replies.append(reply)
        self.due = None
        match step:
            case Step.DRAFT | Step.REPAIR:
                self.due = self._after_draft(step, reply)
            case Step.VERIFY:
                self.due = self._after_verification(read_verification(reply))
            case Step.REDO:
                self.due = self._after_redo(reply)
            case Step.REVERIFY:
                self._settle(read_verification(reply))
            case None:
                raise ValueError("the iteration is finished")

    def _after_draft(self, step: Step, reply: Checkpoint) -> Step | None:
        if is_refusal(reply):
            raise JobFailure("MODEL_REFUSED", f"the model refused to work on {self._name}")
        candidate = self._candidate(reply)
        if candidate is None and step is Step.DRAFT:
            return Step.REPAIR
        if candidate is None:
            message = f"the model's answers on {self._name} could not be used, even after a repair"
            raise JobFailure("MODEL_OUTPUT_INVALID", message)
        self.kept = candidate
        return Step.VERIFY if self.assignment.verify and candidate.applied else None

    def _after_verification(self, verification: Verification | None) -> Step | None:
        if verification is None:
            self.reviews.append(Review.UNVERIFIED)
            return None
        self.kept = _verified(self.kept, verification)
        return None if verification.passed else Step.REDO

    def _after_redo(self, reply: Checkpoint) -> Step | None:
        candidate = self._candidate(reply)
        if candidate is not None and candidate.applied:
            self._redone = candidate
            return Step.REVERIFY
        self.reviews.append(Review.NOT_PASSED)
        if candidate is None:
            self.reviews.append(Review.REDO_UNUSABLE)
        return None

    def _settle(self, verification: Verification | None) -> None:
        """Keep the proposal that passed, else the higher score, else the first."""
        redone, self._redone = self._redone, None
        if verification is None or redone is None:
            self.reviews += [Review.NOT_PASSED, Review.UNVERIFIED]
            return
        first = self.kept.verification
        if verification.passed or first is None or verification.score > first.score:
            self.kept = _verified(redone, verification)
        if not verification.passed:
            self.reviews.append(Review.NOT_PASSED)

    def _candidate(self, reply: Checkpoint) -> Candidate | None:
        asked = read_draft(reply)
        if asked is None:
            return None
        patching = self.patching()
        for patch in asked:
            patching.offer(patch)
        rejected = tuple(each.as_json() for each in patching.rejected)
        candidate = Candidate(patching.story, tuple(patching.applied), rejected)
        self.proposals.append(candidate)
        return candidate

    def _findings(self) -> list[JsonObject]:
        verification = self.kept.verification
        return verification.as_json()["issues"] if verification else []

    @property
    def _name(self) -> str:
        return f"the iteration {self.assignment.iteration.id}"


def _verified(candidate: Candidate, verification: Verification) -> Candidate:
    return Candidate(candidate.story, candidate.applied, candidate.rejected, verification)
