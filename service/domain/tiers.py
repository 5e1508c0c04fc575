"""What each tier may submit; None means without limit."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias

from service.domain.errors import FieldError, InvalidInput

# Limits of one user by their names in `Tier`; None lifts one.
Overrides: TypeAlias = Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """The limits of one tier; days end at midnight UTC.

    Reads are counted per key; open streams and waits per user, in each API process.
    """

    name: str
    requests_per_day: int | None
    tokens_per_day: int | None
    requests_per_minute: int | None
    story_bytes: int
    iterations_per_job: int
    concurrent_jobs: int | None
    reads_per_minute: int | None = 600
    open_streams: int | None = 20
    open_waits: int | None = 20

    def with_overrides(self, overrides: Overrides) -> "Tier":
        """Return this tier as one user has it; None lifts a limit as far as any tier does.

        Names of a later version change nothing.
        """
        known: dict[str, Any] = {name: overrides[name] for name in LIMITS & overrides.keys()}
        lifted = {name: getattr(UNLIMITED, name) for name, limit in known.items() if limit is None}
        return replace(self, **known | lifted)

    def check_story(self, story: str) -> None:
        """Refuse a story that is too large; raises `InvalidInput` with status 413."""
        size = len(story.encode(errors="surrogatepass"))
        if size > self.story_bytes:
            raise self.story_refusal(f"the story has {size} bytes")

    def story_refusal(self, what: str) -> InvalidInput:
        """Return the error for a story over the limit."""
        return InvalidInput(
            f"{what}; a story may have {self.story_bytes}",
            code="STORY_TOO_LARGE",
            status=413,
            limits={"maxBytes": self.story_bytes},
        )

    def check_iterations(self, count: int) -> None:
        """Refuse a job that would run too many iterations; raises `InvalidInput`."""
        if count > self.iterations_per_job:
            message = f"{count} iterations would run; {self.iterations_per_job} per job are allowed"
            raise InvalidInput(
                message,
                code="TOO_MANY_ITERATIONS",
                errors=[FieldError("iterations", message)],
                limits={"maxIterations": self.iterations_per_job},
            )


LIMITS: Final = frozenset(field.name for field in fields(Tier)) - {"name"}

FREE: Final = Tier(
    name="free",
    requests_per_day=50,
    tokens_per_day=100_000,
    requests_per_minute=5,
    story_bytes=10_240,
    iterations_per_job=3,
    concurrent_jobs=1,
)
PRO: Final = Tier(
    name="pro",
    requests_per_day=500,
    tokens_per_day=1_000_000,
    requests_per_minute=20,
    story_bytes=30_720,
    iterations_per_job=6,
    concurrent_jobs=3,
)
ENTERPRISE: Final = Tier(
    name="enterprise",
    requests_per_day=5_000,
    tokens_per_day=10_000_000,
    requests_per_minute=60,
    story_bytes=51_200,
    iterations_per_job=12,
    concurrent_jobs=10,
)
UNLIMITED: Final = Tier(
    name="unlimited",
    requests_per_day=None,
    tokens_per_day=None,
    requests_per_minute=None,
    story_bytes=51_200,
    iterations_per_job=12,
    concurrent_jobs=None,
    reads_per_minute=None,
    open_streams=None,
    open_waits=None,
)

TIERS: Final[Mapping[str, Tier]] = {tier.name: tier for tier in (FREE, PRO, ENTERPRISE, UNLIMITED)}


def tier_named(name: str) -> Tier:
    """Look a tier up; a name of a later version means the strictest one, never no limit."""
    return TIERS.get(name, FREE)
