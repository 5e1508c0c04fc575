"""The iterations a story can go through: what each looks at, applies to and may change."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.errors import FieldError, InvalidInput
from service.domain.story import (
    EDGE_CASES,
    LIST_PATHS,
    LOADING_STATES,
    NON_GOALS,
    OPEN_QUESTIONS,
    OUTCOME_CRITERIA,
    PERFORMANCE,
    SECURITY,
    STORY_PATHS,
    SYSTEM_CRITERIA,
    TELEMETRY,
    USER_VISIBLE,
)

PRODUCT_TYPES = ("web", "mobile-native", "mobile-web", "desktop", "api")
EVERY_OPERATION = ("add", "replace", "remove", "merge")
DEFAULT_ITERATIONS = ("user-roles", "validation", "security")
_ALWAYS = (OPEN_QUESTIONS, EDGE_CASES, NON_GOALS)
_ECHO = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """One way to look at a story; `paths` and `operations` bound what its patches may do."""

    id: str
    name: str
    description: str
    category: str
    order: int
    paths: tuple[str, ...]
    applies_to: tuple[str, ...] = PRODUCT_TYPES
    operations: tuple[str, ...] = EVERY_OPERATION


def _iteration(
    order: int,
    iteration_id: str,
    name: str,
    category: str,
    description: str,
    paths: tuple[str, ...],
    applies_to: tuple[str, ...] = PRODUCT_TYPES,
) -> Iteration:
    return Iteration(
        id=iteration_id,
        name=name,
        description=description,
        category=category,
        order=order,
        paths=(*paths, *_ALWAYS),
        applies_to=applies_to,
    )


_REGISTERED = (
    _iteration(
        1,
        "user-roles",
        "User roles",
        "roles",
        "Who acts, what each role may do, and what it gets out of it",
        (*STORY_PATHS, OUTCOME_CRITERIA),
    ),
    _iteration(
        2,
        "interactive-elements",
        "Interactive elements",
        "elements",
        "Controls, their purpose, states and feedback, and recovery from mistakes",
        (USER_VISIBLE, OUTCOME_CRITERIA),
    ),
    _iteration(
        3,
        "validation",
        "Validation",
        "validation",
        "What is required, when feedback on entries comes and what it says, how submitting behaves",
        (OUTCOME_CRITERIA, SYSTEM_CRITERIA),
    ),
    _iteration(
        4,
        "accessibility",
        "Accessibility",
        "quality",
        "Keyboard, screen readers, forms and errors, live status, contrast",
        (OUTCOME_CRITERIA, SYSTEM_CRITERIA),
    ),
    _iteration(
        5,
        "performance",
        "Performance",
        "quality",
        "Perceived speed, loading states, slow networks, timeouts",
        (SYSTEM_CRITERIA, PERFORMANCE, LOADING_STATES),
    ),
    _iteration(
        6,
        "security",
        "Security",
        "quality",
        "Sessions, handling of data and consent, feedback on permissions, risky actions",
        (SYSTEM_CRITERIA, SECURITY),
    ),
    _iteration(
        7,
        "responsive-web",
        "Responsive web",
        "responsive",
        "Reflow, navigation, touch, forms and tables from small to large viewports",
        (USER_VISIBLE, SYSTEM_CRITERIA),
        ("web", "mobile-web", "desktop"),
    ),
    _iteration(
        8,
        "responsive-native",
        "Responsive native",
        "responsive",
        "Device permissions, platform conventions, gestures, offline use, rotation",
        (USER_VISIBLE, SYSTEM_CRITERIA),
        ("mobile-native",),
    ),
    _iteration(
        9,
        "language-support",
        "Language support",
        "i18n",
        "Switching languages, fallback, right-to-left, scripts, growth of text",
        (OUTCOME_CRITERIA,),
    ),
    _iteration(
        10,
        "locale-formatting",
        "Locale formatting",
        "i18n",
        "Dates, numbers, currency, addresses and units as people write them",
        (OUTCOME_CRITERIA,),
    ),
    _iteration(
        11,
        "cultural-appropriateness",
        "Cultural appropriateness",
        "i18n",
        "What colours and symbols mean, imagery, tone, people's names",
        (OUTCOME_CRITERIA,),
    ),
    _iteration(
        12,
        "analytics",
        "Analytics",
        "analytics",
        "Which actions, journeys and drop-offs to measure, without personal values",
        (SYSTEM_CRITERIA, TELEMETRY),
    ),
)

ITERATIONS: Mapping[str, Iteration] = {iteration.id: iteration for iteration in _REGISTERED}

CONSOLIDATION = Iteration(
    id="consolidation",
    name="Consolidation",
    description="Merge what says the same, and give all items one voice, losing nothing",
    category="post-processing",
    order=999,
    paths=LIST_PATHS,
    operations=("merge", "replace"),
)


def applicable(product_type: str) -> tuple[Iteration, ...]:
    """Return the iterations that make sense for a type of product, in their order."""
    return tuple(each for each in ITERATIONS.values() if product_type in each.applies_to)


def find_iteration(iteration_id: str) -> Iteration | None:
    """Look up an iteration that a job may name, the consolidation pass included."""
    if iteration_id == CONSOLIDATION.id:
        return CONSOLIDATION
    return ITERATIONS.get(iteration_id)


def in_registry_order(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Sort chosen ids; raises `InvalidInput` for none at all, unknown and repeated ones."""
    if not chosen:
        raise _refusal("VALIDATION_ERROR", "iterations", "at least one iteration is needed")
    for index, iteration_id in enumerate(chosen):
        field, shown = f"iterations[{index}]", repr(iteration_id[:_ECHO])
        if iteration_id not in ITERATIONS:
            message = f"{shown} is not one of {', '.join(ITERATIONS)}"
            raise _refusal("UNKNOWN_ITERATION", field, message)
        if iteration_id in chosen[:index]:
            raise _refusal("VALIDATION_ERROR", field, f"{shown} is named twice")
    return tuple(iteration_id for iteration_id in ITERATIONS if iteration_id in chosen)


def _refusal(code: str, field: str, message: str) -> InvalidInput:
    return InvalidInput(message, code=code, errors=[FieldError(field, message)])
