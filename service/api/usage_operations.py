"""What the operations about use and limits take, answer and refuse."""

from collections.abc import Mapping
from typing import Final

from service.api.operation import Operation, Parameter, json_answer
from service.api.parameters import DEFAULT_DAYS, MOST_DAYS
from service.api.usage_documents import QuotaDocument, UsageDocument, UsageHistory

_SCOPE = Parameter(
    "scope",
    "query",
    "Whose: the caller's own, or with the scope `jobs:tenant` the sum of the whole tenant.",
    {"type": "string", "enum": ["user", "tenant"], "default": "user"},
)

USAGE_OPERATIONS: Final[Mapping[str, Operation]] = {
    "get_usage": Operation(
        tag="usage",
        summary="Read what was used today",
        description="Jobs, tokens and cost since midnight UTC, and what is still reserved.",
        parameters=(_SCOPE,),
        answers={200: json_answer("Today's use.", UsageDocument)},
        problems=(400,),
    ),
    "list_daily_usage": Operation(
        tag="usage",
        summary="Read what was used day by day",
        description="One entry for every day, in UTC and newest first, also for those without "
        "use; today's is the first and not complete.",
        parameters=(
            Parameter(
                "days",
                "query",
                "How many days.",
                {"type": "integer", "minimum": 1, "maximum": MOST_DAYS, "default": DEFAULT_DAYS},
            ),
            _SCOPE,
        ),
        answers={200: json_answer("The days.", UsageHistory)},
        problems=(400,),
    ),
    "get_quota": Operation(
        tag="usage",
        summary="Read one's limits",
        description="The limits of the caller, what of them is used and reserved, and what "
        "remains until midnight UTC. Limits are on submitting: reading and cancelling always work.",
        answers={200: json_answer("The limits.", QuotaDocument)},
    ),
}
