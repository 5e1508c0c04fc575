"""What the operations take and answer that need no key: probes, version, description."""

from collections.abc import Mapping
from typing import Final

from service.api.documents import Health, Readiness, Version
from service.api.operation import JSON, Answer, Operation, json_answer

SERVICE_OPERATIONS: Final[Mapping[str, Operation]] = {
    "get_health": Operation(
        tag="service",
        summary="Ask whether the process is alive",
        description="Depends on no other server.",
        answers={200: json_answer("It is.", Health)},
    ),
    "get_readiness": Operation(
        tag="service",
        summary="Ask whether requests can be served",
        description="Needs Postgres; without Redis the service is ready but degraded.",
        answers={
            200: json_answer("They can.", Readiness),
            503: json_answer("Postgres does not answer.", Readiness),
        },
    ),
    "get_version": Operation(
        tag="service",
        summary="Ask what this is",
        description="Name and version of the service.",
        answers={200: json_answer("What it is.", Version)},
    ),
    "get_openapi": Operation(
        tag="service",
        summary="Read this description",
        description="The OpenAPI document.",
        answers={200: Answer("This document.", {JSON: None})},
    ),
}
