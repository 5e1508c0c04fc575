"""Writes for people and for machines."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

# What moves the cursor, rings, or reorders text on a terminal; a story may hold anything.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document, indented."""
    document = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)
    print(document.decode(), flush=True)


def print_json_line(value: Mapping[str, Any]) -> None:
    """Print one JSON document as one line, at once."""
    print(orjson.dumps(value, option=orjson.OPT_UTC_Z).decode(), flush=True)


def note(text: str) -> None:
    """Tell a person something that is not the command's result."""
    print(printable(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result: made safe for a terminal, verbatim into a file or pipe."""
    print(printable(text) if sys.stdout.isatty() else text, flush=True)


def printable(text: str) -> str:
    """Replace what would command a terminal instead of being shown by it."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align rows in columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def this_command() -> str:
    """Return what to type to run `usa` again from here."""
    beside = Path(sys.executable).parent / "usa"
    if shutil.which("usa") is not None or not beside.exists():
        return "usa"
    relative = os.path.relpath(beside)
    return shlex.quote(str(beside) if relative.startswith("..") else relative)
