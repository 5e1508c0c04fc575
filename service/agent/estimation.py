"""What a job's calls are estimated to read and write, before any of them is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.agent.iteration_run import Step
from service.agent.prompts import Prompts
from service.domain.usage import Usage

CHARACTERS_PER_TOKEN = 4
# What a call usually writes, and what an iteration's patches add to the story that follows.
_DRAFT_OUTPUT = 1200
_VERIFICATION_OUTPUT = 500
_STRUCTURE_OVERHEAD = 400
_GROWTH = 300
# What a call is shown of the one before it.
_SHOWN: Mapping[Step, int] = {
    Step.REPAIR: _DRAFT_OUTPUT,
    Step.REDO: _VERIFICATION_OUTPUT,
    Step.VERIFY: _GROWTH,
    Step.REVERIFY: _GROWTH,
}

FEWEST_STEPS = (Step.DRAFT,)


def usual_steps(*, verify: bool) -> tuple[Step, ...]:
    """Return the calls of an iteration whose draft is usable and passes."""
    return (Step.DRAFT, Step.VERIFY) if verify else (Step.DRAFT,)


def most_steps(*, verify: bool) -> tuple[Step, ...]:
    """Return the calls of an iteration in which all goes wrong that can be mended."""
    return tuple(Step) if verify else (Step.DRAFT, Step.REPAIR)


@dataclass(frozen=True, slots=True)
class EstimatedCall:
    """One call and what it will use, as if no prompt were cached."""

    step: Step
    usage: Usage


class Estimator:
    """Estimates by counting the characters of the prompts and of the story."""

    def __init__(self, prompts: Prompts, story_characters: int) -> None:
        self._prompts = prompts
        # The text is in each request twice: verbatim and structured.
        material = 2 * _tokens(story_characters) + _STRUCTURE_OVERHEAD
        self._always = _tokens(len(prompts.shared)) + material

    def calls(self, iterations: Sequence[str], steps: Sequence[Step]) -> list[EstimatedCall]:
        """Estimate every call of a job all of whose iterations take the same steps."""
        return [
            EstimatedCall(step, self._usage(iteration, step, grown=index * _GROWTH))
            for index, iteration in enumerate(iterations)
            for step in steps
        ]

    def _usage(self, iteration: str, step: Step, *, grown: int) -> Usage:
        prompts = self._prompts
        if step.is_verification:
            rules = len(prompts.verification)
        else:
            rules = len(prompts.patching) + len(prompts.by_iteration[iteration])
        return Usage(
            input=self._always + grown + _tokens(rules) + _SHOWN.get(step, 0),
            output=_VERIFICATION_OUTPUT if step.is_verification else _DRAFT_OUTPUT,
        )


def _tokens(characters: int) -> int:
    return characters // CHARACTERS_PER_TOKEN + 1
