"""Builds the real objects, once, from the settings; the only place that sees every room."""

from service.bootstrap.administration import (
    change_user_limits,
    clear_user_limits,
    create_api_key,
    list_api_keys,
    list_user_limits,
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
    "change_user_limits",
    "check_up",
    "clear_user_limits",
    "create_api_key",
    "list_api_keys",
    "list_user_limits",
    "migrate",
    "pending_migrations",
    "revoke_api_key",
    "running_all_in_one",
    "running_api",
    "running_worker",
]
