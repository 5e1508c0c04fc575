"""The rules of the protocol, each of which a mutant breaks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """As they are; what is false is a bug that somebody might write."""

    # Postgres.
    claim_adds_to_attempt: bool = True
    claim_respects_leases: bool = True
    claim_respects_ends: bool = True
    own_row_is_claimable: bool = True
    checkpoint_is_fenced: bool = True
    ending_is_fenced: bool = True
    ending_is_read_back: bool = True
    cancelled_in_one_write: bool = True
    cancel_adds_to_attempt: bool = True
    redrive_adds_to_attempt: bool = True
    mark_checks_attempt: bool = True
    mark_checks_that_none_is_there: bool = True
    clearing_names_the_event: bool = True
    # Redis.
    acknowledgement_checks_owner: bool = True
    renewal_checks_owner: bool = True
    events_are_fenced: bool = True
    end_may_leave_a_hole: bool = True
    # Workers.
    checkpoints_are_read_after_claim: bool = True
    call_is_opened_before_it_is_made: bool = True
    event_follows_commit: bool = True
    acknowledgement_follows_commit: bool = True
    leased_entry_is_left_pending: bool = True
    # Maintenance.
    relay_puts_off: bool = True
    reconciler_looks_for_entries: bool = True
    reconciler_looks_for_leases: bool = True
    reconciler_looks_for_owed_events: bool = True
    reconciler_looks_for_open_calls: bool = True
    reconciler_asks_again: bool = True


REAL = Rules()
