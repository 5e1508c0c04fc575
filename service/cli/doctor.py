"""Checks whether everything is there that a service needs."""

from typing import TYPE_CHECKING

import typer

from service.cli.exit_codes import ExitCode
from service.cli.options import AsJson
from service.cli.output import print_json, show, table

if TYPE_CHECKING:
    from service.domain.checkup import Finding


def doctor(as_json: AsJson = False) -> None:
    """Check settings, servers, versions, and access to the models; exit with 11 if one fails.

    Looks at the servers of REDIS_URL and DATABASE_URL, else at those of the `usa up` of this
    folder. Changes nothing and pays nothing; every check takes a bounded time.
    """
    import asyncio

    from service.bootstrap import check_up
    from service.cli.checkup import read_settings
    from service.domain.checkup import Health

    settings, finding = read_settings()
    findings = [finding, *asyncio.run(check_up(settings))]
    is_healthy = all(each.health is not Health.FAILED for each in findings)
    if as_json:
        checks = [each.as_json() for each in findings]
        print_json({"healthy": is_healthy, "checks": checks})
    else:
        show(table([(each.health.value, each.check, _line(each)) for each in findings]))
    if not is_healthy:
        raise typer.Exit(ExitCode.UNHEALTHY)


def _line(finding: "Finding") -> str:
    text = finding.message if finding.advice is None else f"{finding.message}; {finding.advice}"
    return " ".join(text.split())
