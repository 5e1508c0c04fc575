"""What schemathesis does around each request, inside its own process."""

import importlib
import os
from itertools import cycle
from typing import Any, Final

from tests.contract import FAILED, KEYS

_LONGEST_WAIT: Final = 0.5
_REDRIVE: Final = "/api/v1/jobs/{id}/redrive"
_PAUSE: Final = "/api/v1/admin/pause"

# Not every machine that checks the types has it.
schemathesis: Any = importlib.import_module("schemathesis")
_keys = cycle(os.environ[KEYS].split())
_ids = cycle([*os.environ[FAILED].split(), None])


class OneKeyAfterTheOther:
    """Authenticates with keys of the same user, because each may read 600 times a minute only."""

    def get(self, case: Any, context: Any) -> str:
        """Choose a key."""
        return next(_keys)

    def set(self, case: Any, data: str, context: Any) -> None:
        """Send it."""
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Shorten waits, which would be a day in all, and redrive some jobs that have failed."""
    query = case.query
    if isinstance(query, dict) and isinstance(query.get("wait"), int | float):
        query["wait"] = min(query["wait"], _LONGEST_WAIT) if query["wait"] <= 60 else query["wait"]
    job_id = next(_ids)
    if case.path == _REDRIVE and job_id is not None:
        case.path_parameters["id"] = job_id


def after_call(context: Any, case: Any, response: Any) -> None:
    """Let workers go on after every pause, or nothing would ever end again."""
    if case.method == "POST" and case.path == _PAUSE and response.status_code < 300:
        requests: Any = importlib.import_module("requests")
        url = response.request.url.replace("/pause", "/resume")
        answer = requests.post(url, headers={"Authorization": f"Bearer {next(_keys)}"}, timeout=30)
        assert answer.ok, answer.text


schemathesis.auth(refresh_interval=None)(OneKeyAfterTheOther)
schemathesis.hook(before_call)
schemathesis.hook(after_call)
