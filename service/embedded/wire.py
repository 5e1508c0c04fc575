"""Just enough of PostgreSQL's protocol to run one statement without an event loop."""

import socket
import struct
from pathlib import Path

PROTOCOL_3_0 = 196_608
CONNECT_SECONDS = 5.0


class StatementRefusedError(Exception):
    """The server answered with an error; the message is its own."""


def run_statement(socket_path: Path, user: str, database: str, statement: str) -> int:
    """Run a statement over a trusting Unix socket and return how many rows it gave.

    Raises StatementRefusedError for what the server refuses, OSError for what the socket does.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(str(socket_path))
        names = f"user\0{user}\0database\0{database}\0\0".encode()
        connection.sendall(struct.pack("!ii", len(names) + 8, PROTOCOL_3_0) + names)
        _read_until_ready(connection)
        query = statement.encode() + b"\0"
        connection.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        return _read_until_ready(connection)


def _read_until_ready(connection: socket.socket) -> int:
    rows = 0
    while True:
        kind, length = struct.unpack("!ci", _read_exactly(connection, 5))
        body = _read_exactly(connection, length - 4)
        if kind == b"Z":
            return rows
        if kind == b"E":
            raise StatementRefusedError(_message_of(body))
        if kind == b"R" and struct.unpack_from("!i", body) != (0,):
            raise StatementRefusedError("the server wants a password")
        rows += kind == b"D"


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        chunk = connection.recv(size - len(chunks))
        if not chunk:
            raise ConnectionResetError("the server closed the connection")
        chunks += chunk
    return bytes(chunks)


def _message_of(body: bytes) -> str:
    fields = {part[:1]: part[1:] for part in body.split(b"\0")}
    return fields.get(b"M", b"unknown error").decode(errors="replace")
