"""`make mutants`: makes each bug in a copy of the tree and shows which test catches it.

Exit code 1 if any survives.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from tests.mutants.catalogue import ROOT, Mutant, read_mutants

_COPIED = ("service", "tests", "deploy", "pyproject.toml", "README.md", "Makefile")
_FAILED = re.compile(r"^FAILED (\S+)", re.MULTILINE)
_PASSED, _TESTS_FAILED = 0, 1
_LONGEST = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a mutant; `caught_by` is None if it survived."""

    mutant: Mutant
    caught_by: str | None
    seconds: float
    output: str


def main() -> int:
    """Try the mutants whose names contain one of the arguments, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of those to try; all if none")
    asked = parser.parse_args()
    chosen = [
        mutant
        for mutant in read_mutants()
        if not asked.names or any(part in mutant.name for part in asked.names)
    ]
    with TemporaryDirectory(prefix="mutants-") as folder:
        copy = _copy_tree(Path(folder))
        sound = _run(sorted({test for mutant in chosen for test in mutant.tests}), copy)
        if sound.returncode != _PASSED:
            print(f"without any bug these tests fail:\n{sound.stdout[-2000:]}")
            return 1
        findings = []
        for mutant in chosen:
            findings.append(_try(mutant, copy))
            _tell(findings[-1])
    survivors = [finding for finding in findings if finding.caught_by is None]
    for finding in survivors:
        print(f"\nSURVIVED: {finding.mutant.name}\n{finding.output[-1500:]}")
    broken = sorted({finding.mutant.invariant for finding in findings}, key=_number)
    print(
        f"{len(findings) - len(survivors)} of {len(findings)} bugs caught,"
        f" against {', '.join(broken)}"
    )
    return 1 if survivors or not findings else 0


def _copy_tree(folder: Path) -> Path:
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def _try(mutant: Mutant, copy: Path) -> Finding:
    target = copy / mutant.file
    sound = target.read_text()
    target.write_text(mutant.source(copy))
    begun = monotonic()
    try:
        ran = _run(mutant.tests, copy)
    finally:
        target.write_text(sound)
    # Anything else, such as a test that cannot even be collected, proves nothing.
    failed = _FAILED.search(ran.stdout) if ran.returncode == _TESTS_FAILED else None
    caught_by = failed.group(1) if failed else None
    return Finding(mutant, caught_by, monotonic() - begun, ran.stdout + ran.stderr)


def _run(tests: Sequence[str], copy: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        check=False,
    )


def _tell(finding: Finding) -> None:
    mutant = finding.mutant
    verdict = finding.caught_by or "SURVIVED"
    print(f"{mutant.invariant:4} {mutant.name:62} {finding.seconds:5.1f} s  {verdict}", flush=True)


def _number(invariant: str) -> int:
    return int(invariant.removeprefix("I"))


if __name__ == "__main__":
    sys.exit(main())
