"""What each operation takes, answers and refuses, as the OpenAPI description tells it."""

from collections.abc import Mapping
from typing import Final

from service.api.admin_operations import ADMIN_OPERATIONS
from service.api.iteration_operations import ITERATION_OPERATIONS
from service.api.job_operations import JOB_OPERATIONS
from service.api.operation import Operation
from service.api.service_operations import SERVICE_OPERATIONS
from service.api.usage_operations import USAGE_OPERATIONS

OPERATIONS: Final[Mapping[str, Operation]] = {
    **JOB_OPERATIONS,
    **ITERATION_OPERATIONS,
    **USAGE_OPERATIONS,
    **ADMIN_OPERATIONS,
    **SERVICE_OPERATIONS,
}
