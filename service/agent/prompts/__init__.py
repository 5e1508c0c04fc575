"""The prompts, one file per iteration, and the check that none is missing or left over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from service.domain.iterations import CONSOLIDATION, ITERATIONS

_SHARED = "shared"
_PATCHING = "patching"
_VERIFICATION = "verification"
_SUFFIX = ".md"


class PromptMismatch(Exception):
    """The registry of iterations and the prompt files do not name the same iterations."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts that go before every story.

    `shared` is for all calls, `patching` for those that propose, `verification` for reviews.
    """

    shared: str
    patching: str
    verification: str
    by_iteration: Mapping[str, str]


def load_prompts(
    folder: Traversable | None = None,
    iterations: Iterable[str] = (*ITERATIONS, CONSOLIDATION.id),
) -> Prompts:
    """Read all prompts; raises `PromptMismatch` unless there is exactly one per iteration."""
    source = folder if folder is not None else resources.files(__name__)
    files = [each for each in source.iterdir() if each.name.endswith(_SUFFIX)]
    texts = {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8").strip() for file in files
    }
    expected = {_SHARED, _PATCHING, _VERIFICATION, *iterations}
    problems = [
        *(f"{name}{_SUFFIX} is missing or empty" for name in expected if not texts.get(name)),
        *(f"{name}{_SUFFIX} belongs to no iteration" for name in texts.keys() - expected),
    ]
    if problems:
        raise PromptMismatch("; ".join(sorted(problems)))
    own = {name: texts[name] for name in iterations}
    return Prompts(texts[_SHARED], texts[_PATCHING], texts[_VERIFICATION], own)
