"""Every module says what it is for, is small, and leaves the environment to settings."""

import ast
from collections.abc import Iterator

from tests.architecture.sources import ROOT, SERVICE, modules, names_in

LONGEST = 300

# Clocks that somebody may set, and what each of their readers does with the time of day.
WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}
READS_WALL_CLOCK = {
    "service/agent/anthropic_failures.py",  # a Retry-After that is a date
    "service/api/api_keys.py",  # when a key expires
    "service/api/submission.py",  # ids that sort
    "service/bootstrap/agents.py",  # which prices are of today
    "service/cli/keys.py",  # which keys have expired
}

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "dotenv_values"}
# Children inherit the environment: passed on, never looked at.
PASSES_ENVIRONMENT_ON = {"service/embedded/process.py"}


def test_a_module_says_in_its_first_sentence_what_it_is_for() -> None:
    firsts = {p: (ast.get_docstring(t) or "").partition("\n\n")[0] for p, t in modules().items()}
    assert [path for path, first in firsts.items() if not first.endswith((".", ":"))] == []


def test_no_file_is_longer_than_one_can_keep_in_mind() -> None:
    suffixes = {".py", ".sql", ".lua"}
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in SERVICE.rglob("*")
        if path.suffix in suffixes
    }
    assert len(lengths) > 100
    assert {p: n for p, n in lengths.items() if n > LONGEST} == {}


def test_only_settings_read_the_environment() -> None:
    readers = {p for p, tree in modules().items() if ENVIRONMENT & set(names_in(tree))}
    assert readers == PASSES_ENVIRONMENT_ON


def test_only_supervision_starts_tasks() -> None:
    starters = {
        p for p, tree in modules().items() if {"create_task", "ensure_future"} & set(names_in(tree))
    }
    assert starters == {"service/supervision.py"}


def test_nothing_that_counts_seconds_reads_a_clock_that_may_be_set() -> None:
    readers = {p for p, tree in modules().items() if WALL_CLOCKS & set(_times_in(tree))}
    assert readers == READS_WALL_CLOCK


def _times_in(tree: ast.Module) -> Iterator[str]:
    """Yield every `module.function` that a module calls or imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                yield f"{owner}.{name}"
            case ast.ImportFrom(module=owner, names=names):
                yield from (f"{owner}.{alias.name}" for alias in names)


def test_every_package_is_one_in_tests_as_well() -> None:
    tests = ROOT / "tests"
    folders = {path.parent for path in tests.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
