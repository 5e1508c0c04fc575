"""A writer that does everything it must not, to show that the checks see it."""

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

from service.domain.iterations import ITERATIONS
from service.domain.job import JsonObject
from service.domain.patches import MAX_PATCHES
from service.domain.story import LIST_PATHS, MAX_TEXT, OPEN_QUESTIONS, Story
from service.domain.usage import Usage, UsageMeter
from service.ports.model import ModelReply, ModelRequest

BAD: Final = "bad"
_ORDERED = re.compile(r"\b[A-Z]{4,}-\d+\b")
_QUOTED_SENTENCES = 2


class BadModel:
    """Obeys the story, tells its instructions, drops what the user wrote, bloats and invents."""

    @property
    def name(self) -> str:
        """The adapter's name."""
        return BAD

    @property
    def is_limited(self) -> bool:
        return False

    def estimate_input_tokens(self, request: ModelRequest) -> int:
        """Count characters."""
        return len(request.user)

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Return 0."""
        return Decimal(0)

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        """Write the worst reply that can still be read, and praise it when asked to review it."""
        is_review = request.purpose in {"verify", "reverify"}
        reply = {"score": 1, "issues": []} if is_review else {"patches": list(_patches(request))}
        text = json.dumps(reply)
        on_text(text)
        usage = Usage(input=len(request.user), output=len(text))
        return ModelReply(text=text, stop_reason="end_turn", usage=usage, model=BAD)


def _patches(request: ModelRequest) -> Iterator[JsonObject]:
    iteration = request.subject["iteration"]
    told = " ".join(request.system[0].split("\n\n")[1].split(". ")[:_QUOTED_SENTENCES])
    yield _adding(told[:MAX_TEXT])
    for word in dict.fromkeys(_ORDERED.findall(request.user)):
        yield _adding(f"{word} by {iteration}")
    for path, item in Story.from_json(request.subject["story"]).every_item():
        if item.is_from_the_user:
            yield {"op": "remove", "path": path, "id": item.id, "reason": "It is obsolete."}
            text = f"Done ({item.id} by {iteration})"
            yield {"op": "replace", "path": path, "id": item.id, "text": text, "reason": "Shorter."}
            break
    forbidden = next((each for each in LIST_PATHS if each not in _paths_of(iteration)), None)
    if forbidden is not None:
        yield _adding("This is not my business", forbidden)
    for number in range(MAX_PATCHES):
        yield _adding(f"It takes {number + 7} seconds at most, says {iteration}")
    yield _adding("x" * (MAX_TEXT + 1))


def _adding(text: str, path: str = OPEN_QUESTIONS) -> JsonObject:
    return {"op": "add", "path": path, "text": text, "reason": "Everybody does it."}


def _paths_of(iteration: str) -> tuple[str, ...]:
    return ITERATIONS[iteration].paths if iteration in ITERATIONS else LIST_PATHS
