"""How far everything has come: an entry that was read, an attempt, a task."""

from typing import Final

# An entry that was read, until it is settled.
READ: Final = "read"
SETTLED: Final = "settled"

# An attempt, until it is recorded.
RESUMING: Final = "resuming"
REPORTING: Final = "reporting"
NEXT: Final = "next call"
CALLING: Final = "calling"
CLOSING: Final = "closing"
RECORDING: Final = "recording"
# And after that.
ACKNOWLEDGING: Final = "acknowledging"
FENCED: Final = "fenced"

# Outcomes beside the statuses of an ended job.
RETRIED: Final = "retried"
HANDED_BACK: Final = "handed back"

# Kinds of tasks.
RING: Final = "ring"
TELL: Final = "tell"
REDRIVE: Final = "redrive"
CANCEL: Final = "cancel"
FORGET: Final = "forget"
RECOVER: Final = "recover"

# Of several of them.
TELLING: Final = "telling"
CLEARING: Final = "clearing"
ADDING: Final = "adding"
MARKING: Final = "marking"
LISTED: Final = "listed"
NOT_COMING: Final = "not coming"
LOST: Final = "lost"
