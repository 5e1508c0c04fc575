"""Every lock names exact versions with their hashes, fits pyproject.toml, and fits the others."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fixtures.locks import entries, versions

ROOT = Path(__file__).parents[2]
LOCKS = ("build", "runtime", "dev", "ci", "generator")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GENERATOR = [
    line
    for line in (ROOT / "requirements" / "generator.in").read_text().splitlines()
    if not line.startswith("#")
]
IMAGE_EXTRAS = re.findall(r"^IMAGE_EXTRAS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


def wanted(*lists: list[str]) -> list[Requirement]:
    return [Requirement(text) for requirements in lists for text in requirements]


@pytest.mark.parametrize("lock", LOCKS)
def test_each_requirement_is_an_exact_version_with_hashes_from_the_public_index(lock: str) -> None:
    found = entries(lock)
    assert len(versions(lock)) == len(found) > 3
    assert all("--hash=sha256:" in entry for entry in found)
    assert not re.search(r"file:|https?:|(^|\s)/\w", "\n".join(found))


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("build", wanted(PROJECT["dependency-groups"]["build"])),
        (
            "runtime",
            wanted(
                PROJECT["project"]["dependencies"], *(EXTRAS[e] for e in IMAGE_EXTRAS[0].split())
            ),
        ),
        (
            "dev",
            wanted(
                PROJECT["project"]["dependencies"],
                PROJECT["dependency-groups"]["build"],
                *(EXTRAS[extra] for extra in ("embedded", "dev", "check")),
            ),
        ),
        ("ci", wanted(EXTRAS["contract"], EXTRAS["deploy"])),
        ("generator", wanted(GENERATOR)),
    ],
)
def test_a_lock_has_what_the_project_asks_for(lock: str, requirements: list[Requirement]) -> None:
    locked = versions(lock)
    assert requirements
    for requirement in requirements:
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in {lock}.lock: make lock"
        assert requirement.specifier.contains(version), f"{requirement} in {lock}.lock: make lock"


def test_what_is_tested_is_what_is_shipped() -> None:
    shipped, tested, in_ci = versions("runtime"), versions("dev"), versions("ci")
    assert {name: tested[name] for name in shipped.keys() & tested.keys()} == {
        name: shipped[name] for name in shipped.keys() & tested.keys()
    }
    assert tested.items() <= in_ci.items()


def test_the_image_has_no_embedded_servers_and_no_tools_of_ours() -> None:
    extras = ("embedded", "dev", "check", "contract", "deploy")
    for requirement in wanted(*(EXTRAS[extra] for extra in extras)):
        assert canonicalize_name(requirement.name) not in versions("runtime")
