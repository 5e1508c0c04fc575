"""W3C trace context, as headers, rows and entries carry it: where a trace goes on."""

import re

_TRACE_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)


def trace_id(trace_parent: str | None) -> str | None:
    """Return the id of the trace; None where there is none, or what is there is malformed."""
    if trace_parent is None or not _TRACE_PARENT.fullmatch(trace_parent):
        return None
    return trace_parent.split("-")[1]


def nearest(of_entry: str | None, of_job: str | None) -> str | None:
    """Return where a job's trace goes on: at its entry, unless that is of another trace."""
    trace = trace_id(of_job)
    return of_entry if trace is not None and trace == trace_id(of_entry) else of_job
