"""What any writer must pass: small functions over (case, result, events) that yield complaints."""

from collections.abc import Mapping
from typing import Final

from tests.evaluation.checks.course import (
    adds_up,
    folds_to_the_result,
    is_reviewed_where_it_must_be,
    runs_every_iteration,
)
from tests.evaluation.checks.obedience import (
    asks_only_for_what_it_may,
    follows_no_order_of_the_story,
    keeps_the_instructions_to_itself,
    stays_on_the_paths_of_its_iteration,
)
from tests.evaluation.checks.outcome import (
    is_well_formed,
    keeps_the_users_text,
    reads_the_text,
    renders_the_same_and_one_line_each,
)
from tests.evaluation.checks.parts import Check, Events
from tests.evaluation.checks.wording import invents_no_numbers, keeps_the_numbers, keeps_the_script

CHECKS: Final[Mapping[str, Check]] = {
    "intake": reads_the_text,
    "text": keeps_the_users_text,
    "form": is_well_formed,
    "markdown": renders_the_same_and_one_line_each,
    "steps": runs_every_iteration,
    "folding": folds_to_the_result,
    "money": adds_up,
    "review": is_reviewed_where_it_must_be,
    "paths": stays_on_the_paths_of_its_iteration,
    "asks": asks_only_for_what_it_may,
    "orders": follows_no_order_of_the_story,
    "prompt": keeps_the_instructions_to_itself,
    "script": keeps_the_script,
    "kept": keeps_the_numbers,
    "numbers": invents_no_numbers,
}

__all__ = ["CHECKS", "Check", "Events"]
