"""Who PostgreSQL runs as: it refuses root, and the machine is not changed to please it."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from service.embedded.errors import EmbeddedServerError
from service.embedded.process import SAME_IDENTITY, trampoline_command

ADVICE = "run as a normal user, or set DATABASE_URL"


@dataclass(frozen=True)
class Identity:
    """What the trampoline turns into, and who must own the data (None: whoever we are)."""

    name: str
    owner: tuple[int, int] | None = None

    def adopt(self, tree: Path) -> None:
        """Give the owner a folder of ours with all it holds, if it is not the owner yet."""
        if self.owner is None or tree.stat().st_uid == self.owner[0]:
            return
        for folder, _, files in os.walk(tree):
            for path in [Path(folder), *(Path(folder, file) for file in files)]:
                os.chown(path, *self.owner, follow_symlinks=False)


def choose_identity(program: Path, home: Path) -> Identity:
    """Return an identity under which `program` agrees to run with its data below `home`."""
    if os.geteuid() != 0:
        return Identity(SAME_IDENTITY)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root and there is no user nobody: {ADVICE}"
        ) from error
    namespace = f"namespace:{nobody.pw_uid}"
    if _can_run(program, namespace):
        return Identity(namespace, (0, os.getegid()))
    return _as_nobody(program, home, nobody)


def _as_nobody(program: Path, home: Path, nobody: pwd.struct_passwd) -> Identity:
    user = f"user:{nobody.pw_uid}:{nobody.pw_gid}"
    closed = [folder for folder in home.parents if not folder.stat().st_mode & 0o001]
    unreachable = closed[0] if closed else None if _can_run(program, user) else program
    if unreachable:
        raise EmbeddedServerError(
            "PostgreSQL refuses to run as root, user namespaces are not available here, and user"
            f" nobody cannot reach {unreachable}: {ADVICE}"
        )
    # Passing through is enough; what lies in the home stays readable only to its owner.
    home.chmod(home.stat().st_mode | 0o011)
    return Identity(user, (nobody.pw_uid, nobody.pw_gid))


def _can_run(program: Path, identity: str) -> bool:
    command = trampoline_command([str(program), "--version"], identity)
    return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0
