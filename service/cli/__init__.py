"""The command `usa`; `app` has the table of its commands, one file each group of them."""

import io
import sys

from service.cli.app import app


def main() -> None:
    """Run the command line and exit with one of `ExitCode`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a letter shows a question mark instead of a traceback.
            stream.reconfigure(errors="replace")
    app(prog_name="usa")
