"""Every Redis key and channel name.

Keys that one script touches share a hash tag; a job's keys and the job streams never do.
"""

import hashlib
from collections.abc import Iterable
from typing import Final
from uuid import UUID

JOBS: Final = "{usa}:jobs"
AGAIN: Final = "{usa}:jobs:again"
EPOCH: Final = "{usa}:epoch"
GROUP: Final = "workers"
CANCELLATIONS: Final = "usa:cancellations"

_LIVE = "usa:live:{"
LIVE_ALWAYS: Final = "usa:live"


def job_stream(attempt: int) -> str:
    """Return the stream for a job's next start: first starts wait behind one another,
    all others go first, so that a recovered job does not wait behind the backlog."""
    return AGAIN if attempt else JOBS


def events(job_id: UUID) -> str:
    """Return the key of a job's event stream."""
    return f"usa:events:{{{job_id}}}"


def live(job_id: UUID) -> str:
    """Return the channel on which a job's finished frames are published."""
    return f"{_LIVE}{job_id}}}"


def job_of_live(channel: str) -> UUID | None:
    """Return the job whose frames a channel carries; None for any other channel."""
    try:
        return UUID(channel.removeprefix(_LIVE).removesuffix("}"))
    except ValueError:
        return None


def budget(model: str) -> str:
    """Return the key of a model's rate limits; the others of its budget begin with it."""
    return f"usa:budget:{{{model}}}"


def rate(policy: str, holder: Iterable[str]) -> str:
    """Return the key of what somebody has used of a policy; the name may hold any characters."""
    name = "\0".join(holder).encode(errors="surrogatepass")
    return f"usa:rate:{{{hashlib.sha256(name).hexdigest()[:32]}}}:{policy}"
