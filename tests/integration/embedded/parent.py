"""Starts embedded servers, tells about them in one JSON line, and waits to be killed."""

import argparse
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from service.embedded import EmbeddedServerError, EmbeddedServers
from service.embedded.trampoline import CLONE_NEWUSER

SPAN = 65_536


def forbid_user_namespaces() -> None:
    """Enter a namespace that has all the users it needs, and where no other can be made."""
    creator, proceed = os.pipe()
    outside = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(proceed)
        os.read(creator, 1)
        for kind in ("uid", "gid"):
            Path(f"/proc/{outside}/{kind}_map").write_text(f"0 0 {SPAN}")
        os._exit(0)
    ctypes.CDLL(None).unshare(CLONE_NEWUSER)
    os.close(proceed)
    os.waitpid(helper, 0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def main() -> None:
    """Start servers in the home given, and report them or why there are none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--no-namespaces", action="store_true")
    arguments = parser.parse_args()
    if arguments.no_namespaces:
        forbid_user_namespaces()
    servers = EmbeddedServers(arguments.home, durable=False)
    try:
        urls = servers.start()
    except EmbeddedServerError as error:
        sys.exit(str(error))
    assert servers.valkey is not None
    assert servers.postgres is not None
    pids = [servers.valkey.pid, servers.postgres.pid]
    sockets = str(Path(urls.redis_url.removeprefix("unix://")).parent)
    sys.stdout.write(json.dumps({"pids": pids, "sockets": sockets}) + "\n")
    sys.stdout.flush()
    signal.pause()


if __name__ == "__main__":
    main()
