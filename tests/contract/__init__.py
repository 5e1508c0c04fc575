"""The served OpenAPI document against the service, and the tools of others that read it."""

from typing import Final

KEYS: Final = "USA_CONTRACT_KEYS"
"""The variable that tells schemathesis the keys to call with, separated by spaces."""

FAILED: Final = "USA_CONTRACT_FAILED"
"""The variable that tells schemathesis the ids of jobs that have failed."""

REQUESTS: Final = "USA_CONTRACT_REQUESTS"
"""The variable that says how many requests there must be, at least."""
