"""Creates the data folder of an embedded PostgreSQL, completely or not at all."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

from service.embedded.binaries import PostgresBinaries
from service.embedded.errors import EmbeddedServerError
from service.embedded.identities import Identity
from service.embedded.logs import LogFile
from service.embedded.process import Command, spawn

OPTIONS = ["-U", "app", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
BUILTIN_LOCALE = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
FIRST_WITH_BUILTIN_LOCALE = 17


def create_cluster(
    binaries: PostgresBinaries, data: Path, identity: Identity, log: LogFile, lock: int
) -> None:
    """Run initdb beside `data` and move the result there: a half-made folder is never used."""
    unfinished = data.with_name(f"{data.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    identity.adopt(unfinished)
    locale = BUILTIN_LOCALE if _has_builtin_locale(binaries.initdb) else ["--no-locale"]
    arguments = [str(binaries.initdb), *OPTIONS, *locale, "--no-sync", "-D", str(unfinished)]
    log_start = log.begin()
    child = spawn(Command(arguments, identity.name), log, signal.SIGKILL, lock)
    try:
        failed = child.wait() != 0
    except BaseException:
        child.kill()
        child.wait()
        raise
    if failed:
        raise EmbeddedServerError(f"PostgreSQL data was not created\n{log.quote(log_start)}")
    unfinished.rename(data)


def _has_builtin_locale(initdb: Path) -> bool:
    """Read the major version from a line like `initdb (PostgreSQL) 18.6`."""
    answer = subprocess.run([str(initdb), "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return version is not None and int(version[1]) >= FIRST_WITH_BUILTIN_LOCALE
