"""One rule broken at a time, in a scope just large enough to show what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.models.invariants import CAN_END
from tests.models.moves import Scope
from tests.models.rules import Rules
from tests.models.scopes import scope
from tests.models.state import Fault


@dataclass(frozen=True, slots=True)
class Mutant:
    """What somebody might write, the faults that show it, and the invariant that it breaks."""

    rules: Rules
    control: Scope
    breaks: str

    @property
    def scope(self) -> Scope:
        """The scope in which the bug shows, with the bug; the control is the same without it."""
        return replace(self.control, rules=self.rules)


_REDRIVEN: Final = scope(Fault.CRASH, Fault.REDRIVE, budgets=1)

_PAID_AGAIN: Final = "what is written down is not paid again"
_ENDED: Final = "an ended job changes only by a redrive"
_BUDGET: Final = "only lost workers use up the crash budget"
_NEEDED: Final = "an entry is acknowledged when nobody needs it"
_COMING: Final = "an entry still to come is not forgotten"
_OWED: Final = "an end is owed until it was told"

MUTANTS: Final[Mapping[str, Mutant]] = {
    "no fence at commit": Mutant(
        Rules(ending_is_fenced=False),
        scope(Fault.CANCEL),
        "a cancelled job never completes",
    ),
    "no fence at checkpoint": Mutant(
        Rules(checkpoint_is_fenced=False), scope(Fault.PAUSE), _PAID_AGAIN
    ),
    "a claim does not add to the attempt": Mutant(
        Rules(claim_adds_to_attempt=False),
        scope(Fault.PAUSE),
        "no two attempts have one number",
    ),
    "a claim takes jobs whose lease is live": Mutant(
        Rules(claim_respects_leases=False), scope(Fault.DUPLICATE), _BUDGET
    ),
    "a claim starts jobs that have ended": Mutant(
        Rules(claim_respects_ends=False), scope(Fault.CANCEL), _ENDED
    ),
    "a claim whose reply was lost is not recognised": Mutant(
        Rules(own_row_is_claimable=False), scope(Fault.LOSS), _BUDGET
    ),
    "checkpoints are read before the claim": Mutant(
        Rules(checkpoints_are_read_after_claim=False),
        scope(Fault.CRASH, Fault.PAUSE),
        _PAID_AGAIN,
    ),
    "a call is made before it is written down": Mutant(
        Rules(call_is_opened_before_it_is_made=False),
        scope(),
        "a call is written down before it is made",
    ),
    "an empty guarded write is not read back": Mutant(
        Rules(ending_is_read_back=False),
        scope(Fault.LOSS),
        "an outcome that was committed is known as ones own",
    ),
    "the event before the commit": Mutant(
        Rules(event_follows_commit=False), scope(), "a terminal event is that of the row"
    ),
    "the acknowledgement before the commit": Mutant(
        Rules(acknowledgement_follows_commit=False), scope(), _NEEDED
    ),
    "a leased entry is acknowledged": Mutant(
        Rules(leased_entry_is_left_pending=False), scope(Fault.CRASH), _NEEDED
    ),
    "no owner check at the acknowledgement": Mutant(
        Rules(acknowledgement_checks_owner=False),
        scope(Fault.PAUSE),
        "an entry is acknowledged by its owner",
    ),
    "no owner check at the renewal": Mutant(
        Rules(renewal_checks_owner=False),
        scope(Fault.PAUSE),
        "an entry is not taken from who renews it",
    ),
    "events are not fenced": Mutant(
        Rules(events_are_fenced=False), scope(Fault.PAUSE), "event ids only grow"
    ),
    "a terminal event may not follow a hole": Mutant(
        Rules(end_may_leave_a_hole=False), scope(Fault.CRASH, Fault.FLUSH), _OWED
    ),
    "a cancellation reads, then writes": Mutant(
        Rules(cancelled_in_one_write=False), scope(Fault.CANCEL), _ENDED
    ),
    "a cancellation does not add to the attempt": Mutant(
        Rules(cancel_adds_to_attempt=False), scope(Fault.CANCEL), _OWED
    ),
    "a redrive does not add to the attempt": Mutant(
        Rules(redrive_adds_to_attempt=False), _REDRIVEN, _ENDED
    ),
    "clearing does not name the event": Mutant(
        Rules(clearing_names_the_event=False), _REDRIVEN, _OWED
    ),
    "a mark does not check the attempt": Mutant(
        Rules(mark_checks_attempt=False),
        scope(Fault.ERROR),
        "a marked entry was added for its attempt",
    ),
    "a mark replaces another": Mutant(
        Rules(mark_checks_that_none_is_there=False), scope(Fault.DELAY), _COMING
    ),
    "the relay does not put off": Mutant(
        Rules(relay_puts_off=False), scope(), "entries too many come only of faults"
    ),
    "no reconciler": Mutant(
        Rules(
            reconciler_looks_for_entries=False,
            reconciler_looks_for_leases=False,
            reconciler_looks_for_owed_events=False,
            reconciler_looks_for_open_calls=False,
        ),
        scope(Fault.FLUSH),
        CAN_END,
    ),
    "the reconciler does not look for lost entries": Mutant(
        Rules(reconciler_looks_for_entries=False), scope(Fault.FLUSH), CAN_END
    ),
    "the reconciler does not look for lost workers": Mutant(
        Rules(reconciler_looks_for_leases=False), scope(Fault.CRASH, Fault.FLUSH), CAN_END
    ),
    "the reconciler does not look for owed events": Mutant(
        Rules(reconciler_looks_for_owed_events=False), scope(Fault.LOSS), CAN_END
    ),
    "the reconciler does not look for open calls": Mutant(
        Rules(reconciler_looks_for_open_calls=False),
        scope(Fault.CRASH, Fault.PAUSE),
        CAN_END,
    ),
    "the reconciler believes its first look": Mutant(
        Rules(reconciler_asks_again=False), scope(), _COMING
    ),
}
