"""What a workflow costs in patches, beside one that rewrites the story in each iteration."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from service.agent.prompting import story_for_prompt
from service.domain.usage import Usage
from tests.evaluation.cases import Case, read_cases
from tests.evaluation.dictation import DictatedModel, Form, whole_story
from tests.evaluation.trials import try_case

ITERATIONS: Final = 12
PATCHES: Final = "patches"
LEAN: Final = "rewriting, lean"
WHOLE: Final = "rewriting, whole"
# A rewriting model must write all that a result holds; the lean form, which is that of our
# prompts, loses where items came from, and is there to compare with the least there can be.
WAYS: Final[Mapping[str, Form | None]] = {
    PATCHES: None,
    LEAN: story_for_prompt,
    WHOLE: whole_story,
}


@dataclass(frozen=True, slots=True)
class Bill:
    """Tokens as the server counted them, and their price by today's table."""

    usage: Usage
    cost: Decimal

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(self.usage + other.usage, self.cost + other.cost)

    @property
    def prompts(self) -> int:
        """All tokens that were read, wherever from."""
        return self.usage.total - self.usage.output


NOTHING: Final = Bill(Usage(), Decimal(0))


@dataclass(frozen=True, slots=True)
class Share:
    """What patches take of what rewriting takes."""

    prompts: float
    output: float
    cost: float


def share(ours: Bill, theirs: Bill) -> Share:
    """Compare two bills."""
    return Share(
        ours.prompts / theirs.prompts,
        ours.usage.output / theirs.usage.output,
        float(ours.cost / theirs.cost),
    )


# Both read the whole story in each iteration, so that prompts can differ little.
BOUNDS: Final[Mapping[tuple[str, bool], Share]] = {
    (LEAN, False): Share(prompts=1.0, output=0.25, cost=0.45),
    (LEAN, True): Share(prompts=0.95, output=0.25, cost=0.45),
    (WHOLE, False): Share(prompts=0.95, output=0.2, cost=0.4),
    (WHOLE, True): Share(prompts=0.85, output=0.2, cost=0.4),
}


def workflows() -> list[Case]:
    """Return the stories whose workflow has twelve iterations and finds something to say.

    The offline rules, which say what is written here, know English only.
    """
    kinds = {"web", "mobile", "desktop"}
    return [case for case in read_cases() if case.mode == "workflow" and case.kind in kinds]


async def bills(cases: Sequence[Case], *, verify: bool) -> dict[str, Bill]:
    """Run all stories in each way, with cold caches; return the sums by the way's name."""
    return {
        name: sum([await _bill(case, form, verify=verify) for case in cases], NOTHING)
        for name, form in WAYS.items()
    }


async def _bill(case: Case, rewritten_as: Form | None, *, verify: bool) -> Bill:
    model = DictatedModel(rewritten_as)
    await model.start()
    try:
        options = {**case.options, "verify": verify, "quality": "balanced"}
        chosen = Case(
            id=case.id, kind=case.kind, about=case.about, story=case.story,
            mode="workflow", options=options,
        )  # fmt: skip
        trial = await try_case(chosen, model, None)
    finally:
        await model.stop()
    if trial.result is None or len(trial.result["iterations"]) != ITERATIONS:
        raise RuntimeError(f"{case.id} did not run through {ITERATIONS} iterations")
    billed = sum((call.billed for call in model.stub.calls), Usage())
    if billed.as_json() != trial.result["tokenUsage"]:
        raise RuntimeError(f"{case.id} was billed for other tokens than its result tells")
    return Bill(billed, Decimal(str(trial.result["costUsd"])))


def broken_bounds(by_way: Mapping[str, Bill], *, verify: bool) -> Iterator[str]:
    """Yield each bound that our share of another way's figures does not keep."""
    for (way, is_verified), bound in BOUNDS.items():
        if is_verified is verify:
            part = share(by_way[PATCHES], by_way[way])
            for what in ("prompts", "output", "cost"):
                if getattr(part, what) > getattr(bound, what):
                    yield (
                        f"patches take {getattr(part, what):.1%} of the {what} of {way},"
                        f" more than {getattr(bound, what):.0%}"
                    )


def table_of(without: Mapping[str, Bill], with_reviews: Mapping[str, Bill], stories: int) -> str:
    """Write one row per way with its figures, and our share of it."""
    return "\n".join(_lines({"without": without, "with": with_reviews}, stories))


def _lines(tables: Mapping[str, Mapping[str, Bill]], stories: int) -> Iterator[str]:
    yield f"{stories} stories, {ITERATIONS} iterations each, tokens and USD per story"
    for reviews, by_way in tables.items():
        yield ""
        heading = ["prompts", "uncached", "cache read", "written", "output", "USD"]
        yield _row(f"{reviews} reviews", heading)
        for name, bill in by_way.items():
            yield _row(name, _figures(bill, stories))
            if name != PATCHES:
                part = share(by_way[PATCHES], bill)
                cells = [
                    f"{part.prompts:.0%}",
                    "",
                    "",
                    "",
                    f"{part.output:.0%}",
                    f"{part.cost:.0%}",
                ]
                yield _row("  patches take of it", cells)


def _figures(bill: Bill, stories: int) -> list[str]:
    usage = bill.usage
    counts = (bill.prompts, usage.input, usage.cache_read, usage.cache_write, usage.output)
    return [*(f"{count / stories:.0f}" for count in counts), f"{bill.cost / stories:.4f}"]


def _row(name: str, cells: Sequence[str]) -> str:
    return name.ljust(24) + "".join(cell.rjust(12) for cell in cells)
