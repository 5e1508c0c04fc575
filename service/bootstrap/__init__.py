"""Builds the real objects, once, from the settings; the only place that sees every room."""

from service.bootstrap.administration import (
    create_api_key,
    list_api_keys,
    migrate,
    pending_migrations,
    revoke_api_key,
)
from service.bootstrap.checkup import check_up
from service.bootstrap.processes import (
    Running,
    running_all_in_one,
    running_api,
    running_worker,
)
from service.postgres.schema import SchemaMismatch

__all__ = [
    "Running",
    "SchemaMismatch",
    "check_up",
    "create_api_key",
    "list_api_keys",
    "migrate",
    "pending_migrations",
    "revoke_api_key",
    "running_all_in_one",
    "running_api",
    "running_worker",
]
