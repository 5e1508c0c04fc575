"""How many tokens of a prompt are read, written to the cache, or found in it."""

import hashlib
import time

import orjson

from service.agent.model_stub.rules import blocks_of
from service.domain.job import JsonObject
from service.domain.models import KNOWN_MODELS
from service.domain.usage import Usage

_TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}
_CHARACTERS_PER_TOKEN = 3
_SORTED = orjson.OPT_SORT_KEYS


def count_tokens(characters: int) -> int:
    """Count tokens by the stub's own rule, which clients are not supposed to guess."""
    return characters // _CHARACTERS_PER_TOKEN + 1


class PromptCache:
    """Prefixes up to a `cache_control` mark, per model, key and output schema."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def read(self, body: JsonObject, key: str) -> Usage:
        """Count a prompt's tokens and remember its marked prefixes.

        As with the real API, prefixes below the model's minimum are silently not cached.
        """
        now = time.monotonic()
        prefix = hashlib.sha256(
            orjson.dumps([key, body["model"], body.get("output_config")], option=_SORTED)
        )
        total = marked = cached = 0
        for block, is_system in _prompt_blocks(body):
            prefix.update(orjson.dumps([is_system, block["text"]]))
            total += count_tokens(len(block["text"]))
            mark = block.get("cache_control")
            if mark is None or total < KNOWN_MODELS[body["model"]].min_cacheable:
                continue
            marked = total
            entry = prefix.digest()
            if self._until.get(entry, 0.0) > now:
                cached = total
            self._until[entry] = now + _TTL_SECONDS[mark.get("ttl", "5m")]
        return Usage(input=total - marked, cache_read=cached, cache_write=marked - cached)


def _prompt_blocks(body: JsonObject) -> list[tuple[JsonObject, bool]]:
    blocks = [(block, True) for block in blocks_of(body.get("system", []))]
    for message in body["messages"]:
        blocks.extend((block, False) for block in blocks_of(message["content"]))
    return blocks
