"""The description that is kept beside the code is the one that is served."""

import json

from typer.testing import CliRunner

from service import __version__
from service.api.openapi import describe
from service.api.routes import ROUTES
from service.cli.app import app
from tests.architecture.sources import ROOT

KEPT = ROOT / "deploy" / "openapi.json"


def test_the_kept_description_is_that_of_the_code() -> None:
    is_the_same = json.loads(KEPT.read_text()) == describe(ROUTES, __version__)
    assert is_the_same, "deploy/openapi.json is out of date: `make openapi` renews it"


def test_the_command_that_renews_it_writes_just_this() -> None:
    done = CliRunner().invoke(app, ["openapi"])
    assert done.exit_code == 0
    assert done.stdout == KEPT.read_text()
    assert "service openapi > deploy/openapi.json" in (ROOT / "Makefile").read_text()
