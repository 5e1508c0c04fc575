"""The stories that every writer must do well on, one file each."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from service.domain.job import JsonObject

FOLDER: Final = Path(__file__).parent / "stories"
_KEYS = frozenset(
    {"kind", "about", "story", "repeat", "mode", "iterations", "options", "markers", "expect"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One submission and what must come of it.

    `markers` are words that only a writer uses who obeys an order hidden in the text; `expect`
    says what intake reads (`title`, `asA`, `iWant`, `soThat`, `own` for the number of items), or
    `refused`.
    """

    id: str
    kind: str
    about: str
    story: str
    mode: str = "individual"
    iterations: tuple[str, ...] | None = None
    options: JsonObject = field(default_factory=dict)
    markers: tuple[str, ...] = ()
    expect: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_refused(self) -> bool:
        """Whether it must not even become a job."""
        return bool(self.expect.get("refused"))


def read_cases(folder: Path = FOLDER) -> list[Case]:
    """Read all stories in the order of their names."""
    return [_read(path) for path in sorted(folder.glob("*.toml"))]


def find_case(case_id: str) -> Case:
    """Read one story."""
    return _read(FOLDER / f"{case_id}.toml")


def _read(path: Path) -> Case:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    unknown = data.keys() - _KEYS
    if unknown:
        raise ValueError(f"{path.name}: {', '.join(sorted(unknown))} says nothing")
    iterations = data.get("iterations")
    return Case(
        id=path.stem,
        kind=data["kind"],
        about=data["about"],
        story=data["story"] * data.get("repeat", 1),
        mode=data.get("mode", "individual"),
        iterations=None if iterations is None else tuple(iterations),
        options=data.get("options", {}),
        markers=tuple(data.get("markers", ())),
        expect=data.get("expect", {}),
    )
