"""Real Valkey and PostgreSQL on private sockets, for one machine, never outliving their parent."""

from service.embedded.errors import EmbeddedServerError
from service.embedded.folders import make_socket_folder, remove_socket_folder
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.servers import (
    EmbeddedServers,
    RunningServers,
    Urls,
    find_running_servers,
)
from service.embedded.valkey import EmbeddedValkey

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedServerError",
    "EmbeddedServers",
    "EmbeddedValkey",
    "RunningServers",
    "Urls",
    "find_running_servers",
    "make_socket_folder",
    "remove_socket_folder",
]
