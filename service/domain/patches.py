"""Changes to a story: what a model may ask for, and which of it is done."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from service.domain.iterations import Iteration
from service.domain.job import JsonObject
from service.domain.story import (
    LIST_PATHS,
    MAX_ITEMS,
    MAX_TEXT,
    PATHS,
    Item,
    Story,
    clean_text,
    is_visible,
    sameness_key,
)

MAX_PATCHES = 12
MAX_ASKED = 48
MAX_REASON = 240
_FEWEST_TO_MERGE = 2
_SHOWN_IN_REJECTION = 120
_KEYS = frozenset({"op", "path", "id", "ids", "text", "reason"})


class Operation(StrEnum):
    """What a patch does."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"
    MERGE = "merge"


class Rejection(StrEnum):
    """Why a patch was dropped."""

    MALFORMED = "malformed"
    OPERATION_NOT_ALLOWED = "operation-not-allowed"
    UNKNOWN_PATH = "unknown-path"
    PATH_NOT_ALLOWED = "path-not-allowed"
    UNKNOWN_ID = "unknown-id"
    TEXT_MISSING = "text-missing"
    TEXT_TOO_LONG = "text-too-long"
    DUPLICATE_TEXT = "duplicate-text"
    FROM_THE_USER = "from-the-user"
    TOO_MANY_PATCHES = "too-many-patches"
    STORY_FULL = "story-full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One change, as asked for or as done.

    Done, an added item's `id` is its number, and a merged one's is the survivor's, with
    `ids` those that went into it.
    """

    op: Operation
    path: str
    id: str | None = None
    ids: tuple[str, ...] = ()
    text: str = ""
    reason: str = ""

    def as_json(self) -> JsonObject:
        """`{op, path, id?, ids?, text?, reason?}`."""
        shown: JsonObject = {"op": self.op.value, "path": self.path}
        if self.id is not None:
            shown["id"] = self.id
        if self.ids:
            shown["ids"] = list(self.ids)
        return shown | {
            key: value for key, value in (("text", self.text), ("reason", self.reason)) if value
        }

    @classmethod
    def from_json(cls, data: object) -> "Patch | None":
        """Read a patch, cleaning its texts; anything of another shape is None."""
        if not isinstance(data, dict) or not data.keys() <= _KEYS:
            return None
        op, path = data.get("op"), data.get("path")
        item_id, ids = data.get("id"), data.get("ids") or []
        if op not in list(Operation) or not isinstance(path, str):
            return None
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            return None
        texts = (item_id or "", data.get("text") or "", data.get("reason") or "")
        if not all(isinstance(text, str) for text in texts):
            return None
        return cls(
            op=Operation(op),
            path=path,
            id=item_id or None,
            ids=tuple(dict.fromkeys(ids)),
            text=clean_text(texts[1]),
            reason=clean_text(texts[2])[:MAX_REASON],
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """A dropped patch, with why."""

    rejection: Rejection
    asked: Any

    def as_json(self) -> JsonObject:
        """`{rejection, op?, path?, id?, text?}`, every value cut short."""
        asked = self.asked if isinstance(self.asked, dict) else {}
        shown: JsonObject = {"rejection": self.rejection.value}
        for key in ("op", "path", "id", "text"):
            value = asked.get(key)
            if isinstance(value, str) and value:
                shown[key] = clean_text(value)[:_SHOWN_IN_REJECTION]
        return shown


class Patching:
    """One iteration's patches as they come, each checked against the story so far.

    What comes after the first `MAX_ASKED` is not looked at, so that no reply is too long to keep.
    """

    def __init__(self, story: Story, iteration: Iteration) -> None:
        self.story = story
        self.applied: list[Patch] = []
        self.rejected: list[Rejected] = []
        self._iteration = iteration

    def offer(self, asked: object) -> Patch | None:
        """Apply a patch and return it as done, or note why it was dropped."""
        if len(self.applied) + len(self.rejected) >= MAX_ASKED:
            return None
        patch = Patch.from_json(asked)
        verdict = Rejection.MALFORMED if patch is None else self._check(patch)
        if isinstance(verdict, Rejection):
            self.rejected.append(Rejected(verdict, asked))
            return None
        self.applied.append(verdict)
        self.story = enact(self.story, verdict, self._iteration.id)
        return verdict

    def _check(self, patch: Patch) -> Patch | Rejection:
        if patch.path not in PATHS:
            return Rejection.UNKNOWN_PATH
        if patch.path not in self._iteration.paths:
            return Rejection.PATH_NOT_ALLOWED
        if patch.op not in self._iteration.operations or not _fits(patch):
            return Rejection.OPERATION_NOT_ALLOWED
        refusal = _text_refusal(self.story, patch)
        if refusal is not None:
            return refusal
        done = _resolved(self.story, patch)
        if not isinstance(done, Rejection) and len(self.applied) >= MAX_PATCHES:
            return Rejection.TOO_MANY_PATCHES
        return done


def apply_patches(
    story: Story, patches: Iterable[object], iteration: Iteration
) -> tuple[Story, tuple[Patch, ...], tuple[Rejected, ...]]:
    """Return the story after all acceptable patches, those as done, and the dropped ones."""
    patching = Patching(story, iteration)
    for asked in patches:
        patching.offer(asked)
    return patching.story, tuple(patching.applied), tuple(patching.rejected)


def enact(story: Story, done: Patch, iteration_id: str) -> Story:
    """Change the story as an accepted patch says, without judging it again."""
    if done.path not in LIST_PATHS:
        return story.with_line(done.path, done.text)
    items = story.items(done.path)
    match done.op:
        case Operation.ADD:
            return story.with_item(done.path, Item(done.id or "", done.text, iteration_id))
        case Operation.REMOVE:
            kept = tuple(item for item in items if item.id != done.id)
            return story.with_list(done.path, kept)
        case Operation.REPLACE:
            changed = (item.reworded(done.text) if item.id == done.id else item for item in items)
            return story.with_list(done.path, tuple(changed))
        case Operation.MERGE:
            return story.with_list(done.path, _merged(items, done))


def _fits(patch: Patch) -> bool:
    return patch.path in LIST_PATHS or (patch.op is Operation.REPLACE and patch.id is None)


def _text_refusal(story: Story, patch: Patch) -> Rejection | None:
    if patch.op is Operation.REMOVE:
        return None
    if not is_visible(patch.text):
        return Rejection.TEXT_MISSING
    if len(patch.text) > MAX_TEXT:
        return Rejection.TEXT_TOO_LONG
    key = sameness_key(patch.text)
    if patch.path not in LIST_PATHS:
        is_same = sameness_key(story.line(patch.path)) == key
    else:
        going = patch.ids if patch.op is Operation.MERGE else ()
        others = (item.text for _, item in story.every_item() if item.id not in going)
        is_same = any(sameness_key(text) == key for text in others)
    return Rejection.DUPLICATE_TEXT if is_same else None


def _resolved(story: Story, patch: Patch) -> Patch | Rejection:
    """Settle which item a patch is about."""
    if patch.path not in LIST_PATHS:
        return replace(patch, ids=())
    if patch.op is Operation.ADD:
        return _addition(story, patch)
    if patch.op is Operation.MERGE:
        return _merger(story, patch)
    item = story.find(patch.path, patch.id or "")
    if item is None:
        return Rejection.UNKNOWN_ID
    if patch.op is Operation.REMOVE:
        return Rejection.FROM_THE_USER if item.is_from_the_user else replace(patch, ids=(), text="")
    return replace(patch, ids=())


def _addition(story: Story, patch: Patch) -> Patch | Rejection:
    if sum(1 for _ in story.every_item()) >= MAX_ITEMS:
        return Rejection.STORY_FULL
    return replace(patch, id=story.next_id(patch.path), ids=())


def _merger(story: Story, patch: Patch) -> Patch | Rejection:
    found = [story.find(patch.path, item_id) for item_id in patch.ids]
    items = [item for item in found if item is not None]
    if len(items) < len(found) or len(items) < _FEWEST_TO_MERGE:
        return Rejection.UNKNOWN_ID
    own = [item for item in items if item.is_from_the_user]
    if len(own) > 1:
        # Only one can survive, and the other's wording would be gone.
        return Rejection.FROM_THE_USER
    survivor = (own or items)[0].id
    return replace(patch, id=survivor, ids=tuple(i for i in patch.ids if i != survivor))


def _merged(items: tuple[Item, ...], done: Patch) -> tuple[Item, ...]:
    """Keep the survivor in its place, naming every id that ever went into it."""
    going = [item for item in items if item.id in done.ids]
    names = [name for item in going for name in (item.id, *item.merged_from)]
    kept = (item for item in items if item.id not in done.ids)
    return tuple(
        replace(item.reworded(done.text), merged_from=(*item.merged_from, *names))
        if item.id == done.id
        else item
        for item in kept
    )
