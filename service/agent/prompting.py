"""Writes model requests: shared rules first, the iteration's own next, the story last."""

import json
from dataclasses import dataclass

from service.agent.prompts import Prompts
from service.agent.replies import DRAFT_SCHEMA, VERIFICATION_SCHEMA
from service.domain.iterations import Iteration
from service.domain.job import JsonObject
from service.domain.models import ModelChoice
from service.domain.story import INTAKE, LIST_PATHS, STORY_PATHS, Story
from service.ports.model import ModelRequest

# Thinking counts as output, so these leave far more room than an answer needs.
_DRAFT_TOKENS = 16_000
_REPAIR_TOKENS = 24_000
_VERIFY_TOKENS = 12_000
_BROKEN_SHOWN = 6000

_DRAFT_TASK = "Propose patches for the story in this JSON document."
_REDO_TASK = (
    "A review found faults in an earlier proposal, which was taken back entirely: see"
    " `reviewFindings`. Propose patches anew for the story in this JSON document."
)
_REPAIR_TASK = (
    "Your earlier answer could not be used: it was cut off or was not the JSON object asked for."
    " Its beginning is in `brokenAnswer`. Answer again, complete and briefer, for the story in"
    " this JSON document."
)
_VERIFY_TASK = "Review the patches in this JSON document."


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One iteration of one job: everything its requests are written from."""

    iteration: Iteration
    story: Story
    original: str
    product: JsonObject
    verify: bool
    models: ModelChoice
    prompts: Prompts

    def draft(self) -> ModelRequest:
        """Ask for patches."""
        return self._drafting("draft", _DRAFT_TASK, {}, _DRAFT_TOKENS)

    def repair(self, broken: str) -> ModelRequest:
        """Ask again after an answer that could not be used."""
        shown = {"brokenAnswer": broken[:_BROKEN_SHOWN]}
        return self._drafting("repair", _REPAIR_TASK, shown, _REPAIR_TOKENS)

    def redo(self, findings: list[JsonObject]) -> ModelRequest:
        """Ask again after a review that did not pass."""
        return self._drafting("redo", _REDO_TASK, {"reviewFindings": findings}, _REPAIR_TOKENS)

    def verification(self, phase: str, patches: list[JsonObject]) -> ModelRequest:
        """Ask for a review of accepted patches."""
        focus = {"name": self.iteration.name, "description": self.iteration.description}
        material = {
            "focus": focus,
            **self._product(),
            "originalStory": self.original,
            "before": story_for_prompt(self.story),
            "patches": patches,
        }
        return ModelRequest(
            purpose=phase,
            model=self.models.verify,
            system=(self.prompts.shared, self.prompts.verification),
            user=_message(_VERIFY_TASK, material),
            schema=VERIFICATION_SCHEMA,
            max_output_tokens=_VERIFY_TOKENS,
            subject=self._subject(phase, {"patches": patches}),
        )

    def _drafting(
        self, phase: str, task: str, more: JsonObject, max_output_tokens: int
    ) -> ModelRequest:
        material = {
            **self._product(),
            "originalStory": self.original,
            "story": story_for_prompt(self.story),
            **more,
        }
        prompt = self.prompts.by_iteration[self.iteration.id]
        return ModelRequest(
            purpose=phase,
            model=self.models.draft,
            system=(
                f"{self.prompts.patching}\n\n{self.prompts.shared}",
                f"{prompt}\n\n{_limits(self.iteration)}",
            ),
            user=_message(task, material),
            schema=DRAFT_SCHEMA,
            max_output_tokens=max_output_tokens,
            subject=self._subject(phase, more),
        )

    def _product(self) -> JsonObject:
        return {"product": self.product} if self.product else {}

    def _subject(self, phase: str, more: JsonObject) -> JsonObject:
        return {
            "iteration": self.iteration.id,
            "phase": phase,
            "story": self.story.as_json(),
            "originalStory": self.original,
            **more,
        }


def story_for_prompt(story: Story) -> JsonObject:
    """Return what a model must know of a story, under the names that its patches use.

    Nearly all prompts are this. What an item was made from is for people, and the user's own
    wording is in the original text.
    """
    own = [item.id for _, item in story.every_item() if item.iteration == INTAKE]
    lists = {path: {item.id: item.text for item in story.items(path)} for path in LIST_PATHS}
    lines = {path: story.line(path) for path in STORY_PATHS}
    shown = {"title": story.title, **lines, **lists, "intake": own}
    return {name: value for name, value in shown.items() if value}


def _limits(iteration: Iteration) -> str:
    paths = ", ".join(f"`{path}`" for path in iteration.paths)
    operations = ", ".join(f"`{operation}`" for operation in iteration.operations)
    return f"Paths you may change: {paths}.\nOperations you may use: {operations}."


def _message(task: str, material: JsonObject) -> str:
    document = json.dumps(material, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate cannot be sent; it would fail the call instead of one character.
    return f"{task}\n\n{document}".encode("utf-8", "replace").decode()
