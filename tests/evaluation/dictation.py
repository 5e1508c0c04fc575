"""Claude's adapter at work on replies that are known beforehand: patches, or the whole story."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Final, TypeAlias

import orjson

from service.agent.anthropic_model import AnthropicModel
from service.agent.model_stub import ModelStub
from service.agent.offline_writer import write_draft, write_verification
from service.domain.iterations import find_iteration
from service.domain.job import JsonObject
from service.domain.patches import apply_patches
from service.domain.story import Story
from service.domain.usage import Usage, UsageMeter
from service.ports.model import ModelReply, ModelRequest
from tests.evaluation.trials import TODAY

Form: TypeAlias = Callable[[Story], JsonObject]

_REVIEWS: Final = frozenset({"verify", "reverify"})


def whole_story(story: Story) -> JsonObject:
    """Return all that a result holds of a story, without what is empty."""
    shown = story.as_json()
    notes = {leaf: items for leaf, items in shown["implementationNotes"].items() if items}
    return {key: part for key, part in (shown | {"implementationNotes": notes}).items() if part}


class DictatedModel:
    """Sends each request over the wire, and has it answered with what the offline rules say.

    With `rewritten_as`, each draft is answered with the whole story in that form, which the next
    one reads, and each review reads that story instead of the patches; the agent is told the same
    as without. One call at a time.
    """

    def __init__(self, rewritten_as: Form | None) -> None:
        self._form = rewritten_as
        self._reply = ""
        self.stub = ModelStub(writer=lambda _: self._reply)
        self._claude: AnthropicModel | None = None

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "dictated"

    async def start(self) -> None:
        """Start the server that counts."""
        address = await self.stub.start()
        self._claude = AnthropicModel("key", today=lambda: TODAY, base_url=address)

    async def stop(self) -> None:
        """Stop the server."""
        await self._adapter.close()
        await self.stub.stop()

    @property
    def is_limited(self) -> bool:
        return False

    def estimate_input_tokens(self, request: ModelRequest) -> int:
        """Estimate as Claude's adapter does."""
        return self._adapter.estimate_input_tokens(request)

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Price as Claude's adapter does."""
        return self._adapter.cost_usd(model, usage)

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        """Make the call, and tell the agent what the offline rules say."""
        is_review = request.purpose in _REVIEWS
        said = (write_verification if is_review else write_draft)(request.subject)
        sent, self._reply = request, said
        if self._form is not None:
            after = self._form(_story_after(request.subject, said))
            before = self._form(Story.from_json(request.subject["story"]))
            changes = {"before": before, "after": after} if is_review else {"story": before}
            sent = _reading(request, changes)
            self._reply = said if is_review else _dumped(after)
        reply = await self._adapter.complete(sent, meter, lambda _: None)
        on_text(said)
        return replace(reply, text=said)

    @property
    def _adapter(self) -> AnthropicModel:
        if self._claude is None:
            raise RuntimeError("it was not started")
        return self._claude


def _story_after(subject: JsonObject, said: str) -> Story:
    """Return the story with the patches that are proposed, or under review."""
    iteration = find_iteration(subject["iteration"])
    if iteration is None:
        raise ValueError("there is no such iteration")
    patches = subject.get("patches") or orjson.loads(said).get("patches", ())
    story, _, _ = apply_patches(Story.from_json(subject["story"]), patches, iteration)
    return story


def _reading(request: ModelRequest, changes: JsonObject) -> ModelRequest:
    task, _, document = request.user.partition("\n\n")
    material = orjson.loads(document)
    material.pop("patches", None)
    return replace(request, user=f"{task}\n\n{_dumped({**material, **changes})}")


def _dumped(data: JsonObject) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
