"""The Dockerfile makes a small image that runs as nobody, from locked wheels only."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def instructions() -> list[str]:
    """The Dockerfile, one instruction each, without comments."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def final_stage(instructions: list[str]) -> list[str]:
    """The instructions that make the image which is shipped."""
    starts = [i for i, line in enumerate(instructions) if line.startswith("FROM ")]
    assert len(starts) > 1
    return instructions[starts[-1] :]


def test_both_stages_have_the_same_python(instructions: list[str]) -> None:
    bases = {line.split()[1] for line in instructions if line.startswith("FROM ")}
    assert len(bases) == 1
    assert re.fullmatch(r"docker\.io/library/python:3\.1[1-3]-slim-\w+", bases.pop())


def test_everything_installed_is_locked_by_its_hash_or_is_our_own_wheel(
    instructions: list[str],
) -> None:
    installs = re.findall(r"pip\s(?:(?!&&).)*?\binstall\b(?:(?!&&).)*", "\n".join(instructions))
    locked = [i for i in installs if "--require-hashes" in i and "--only-binary :all:" in i]
    own = [i for i in installs if i.endswith("--no-deps --no-compile /wheels/*.whl")]
    assert len(locked) == 2
    assert len(locked) + len(own) == len(installs)


def test_the_shipped_stage_installs_nothing_and_runs_as_nobody(final_stage: list[str]) -> None:
    runs = [line for line in final_stage if line.startswith("RUN ")]
    assert len(runs) == 1
    assert "useradd --uid 10001" in runs[0]
    assert "USER 10001:10001" in final_stage
    assert not [line for line in final_stage if re.search(r"\b(apt|apt-get|pip|gcc|curl)\b", line)]


def test_signals_reach_the_service_itself_and_no_shell_is_needed(final_stage: list[str]) -> None:
    assert 'ENTRYPOINT ["usa"]' in final_stage
    [check] = [line for line in final_stage if line.startswith("HEALTHCHECK ")]
    assert 'CMD ["python", "-c", ' in check


def test_builders_that_know_no_heredocs_can_build_it(instructions: list[str]) -> None:
    assert not [line for line in instructions if "<<" in line]


def test_all_that_is_copied_and_nothing_else_gets_to_the_builder(instructions: list[str]) -> None:
    first, *exceptions = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    copied = {
        source.rstrip("/")
        for line in instructions
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert first == "*"
    assert {line.removeprefix("!") for line in exceptions if line.startswith("!")} == copied
    assert all((ROOT / path).exists() for path in copied)
    assert any(fnmatch("service/domain/__pycache__", line) for line in exceptions)
