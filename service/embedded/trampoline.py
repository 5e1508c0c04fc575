"""Script that takes an identity, binds itself to its parent's life and becomes the server.

A script and not a `preexec_fn`, because code between fork and exec can deadlock a parent with
threads. Only the standard library, so that `python -I -S` starts it in milliseconds.
"""

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
UNABLE_TO_START = 127


def take_identity(identity: str) -> None:
    """Become what `same`, `namespace:UID` or `user:UID:GID` says."""
    kind, *numbers = identity.split(":")
    if kind == "namespace":
        enter_user_namespace(as_uid=int(numbers[0]))
    elif kind == "user":
        uid, gid = (int(number) for number in numbers)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def enter_user_namespace(as_uid: int) -> None:
    """Look like `as_uid` to oneself only; files keep their owner."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not available")
    process = Path("/proc/self")
    process.joinpath("setgroups").write_text("deny")
    process.joinpath("uid_map").write_text(f"{as_uid} {outer_uid} 1")
    process.joinpath("gid_map").write_text(f"{as_uid} {outer_gid} 1")


def die_with_parent(death_signal: int, parent: int) -> None:
    """Ask for `death_signal` at the parent's end; only Linux can, elsewhere it must stop us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    # The parent may have died before the request was in place; then nobody would ever signal us.
    if os.getppid() != parent:
        raise ProcessLookupError("the parent process has already ended")


def main(arguments: list[str]) -> None:
    """Become `PARENT_PID DEATH_SIGNAL IDENTITY PROGRAM [ARGUMENT ...]`."""
    parent, death_signal, identity, *program = arguments
    take_identity(identity)
    # After the identity, because a change of credentials clears the request.
    die_with_parent(int(death_signal), int(parent))
    os.execv(program[0], program)  # noqa: S606 - becoming the server is the purpose


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"cannot start {sys.argv[4]}: {error}\n")
        sys.exit(UNABLE_TO_START)
