"""Reads the list of mutants, and makes them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: what it breaks, where it is, and the tests of which one must fail."""

    name: str
    invariant: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def source(self, root: Path = ROOT) -> str:
        """Return the file with the bug; raises `ValueError` unless its place is there once."""
        text = (root / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: found {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


def read_mutants() -> list[Mutant]:
    """Every mutant, in the order of the list."""
    listed = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text())["mutant"]
    return [Mutant(**{**each, "tests": tuple(each["tests"])}) for each in listed]
