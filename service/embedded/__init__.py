"""Real Valkey and PostgreSQL on private sockets, for one machine, never outliving their parent."""

from service.embedded.errors import EmbeddedServerError
from service.embedded.folders import make_socket_folder, remove_socket_folder
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.servers import EmbeddedServers, Urls, find_running_database
from service.embedded.valkey import EmbeddedValkey

__all__ = [
    "EmbeddedPostgres",
    "EmbeddedServerError",
    "EmbeddedServers",
    "EmbeddedValkey",
    "Urls",
    "find_running_database",
    "make_socket_folder",
    "remove_socket_folder",
]
