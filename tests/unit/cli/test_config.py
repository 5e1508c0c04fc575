"""The table of settings, and what it never shows."""

import json

import pytest
from typer.testing import CliRunner

from service.cli.app import app
from service.cli.config import settings_table
from service.relations import RELATIONS
from service.settings import ClientSettings, Settings

SECRET = "s3cr3t"
SECRETS = {
    "REDIS_URL": f"redis://:{SECRET}@redis:6379/0",
    "USA_DATABASE_URL": f"postgresql://usa:{SECRET}@db/usa",
    "ANTHROPIC_API_KEY": f"sk-ant-{SECRET}",
    "USA_API_KEY": f"usa_00000000_{SECRET}",
}


def listed() -> dict[str, dict[str, object]]:
    done = CliRunner().invoke(app, ["config", "--json"])
    assert done.exit_code == 0
    return {each["variables"][0]: each for each in json.loads(done.stdout)["settings"]}


def test_every_setting_has_one_row_with_its_default_and_meaning() -> None:
    head, _, *rows = settings_table().splitlines()
    assert head == "| Variable | Default | Allowed | Meaning |"
    assert len(rows) == len(Settings.model_fields.keys() | ClientSettings.model_fields.keys())
    assert "| `USA_PORT`, `PORT` | `3000` | 0 to 65535 | Port of the API. |" in rows
    assert all(row.strip("| ").split("|")[-1].strip().endswith(".") for row in rows)


def test_allowed_values_are_shown() -> None:
    allowed = {name: each["allowed"] for name, each in listed().items()}
    assert allowed["USA_LOG_FORMAT"] == "json, text"
    assert allowed["USA_TEST_AGENTS"] == "true, false"
    assert allowed["USA_LEASE"] == "above 0"


def test_what_is_set_is_told_from_what_is_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "4000")
    monkeypatch.setenv("USA_CORS_ORIGINS", "https://a.example, https://b.example")
    settings = listed()
    assert (settings["USA_PORT"]["value"], settings["USA_PORT"]["isSet"]) == (4000, True)
    assert (settings["USA_LEASE"]["value"], settings["USA_LEASE"]["isSet"]) == (15.0, False)
    assert settings["USA_CORS_ORIGINS"]["value"] == ["https://a.example", "https://b.example"]
    table = CliRunner().invoke(app, ["config"]).stdout.splitlines()
    starred = [line.split()[1:3] for line in table if line.startswith("*")]
    assert ["USA_PORT", "4000"] in starred
    assert "USA_LEASE" not in [name for name, *_ in starred]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_must_hold_between_settings_is_shown(form: list[str]) -> None:
    shown = CliRunner().invoke(app, ["config", *form]).stdout
    assert len(RELATIONS) > 5
    assert [str(each) for each in RELATIONS if str(each) not in shown] == []


@pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"]])
def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch, form: list[str]) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["config", *form])
    assert done.exit_code == 0
    assert "REDIS_URL" in done.output
    assert SECRET not in done.output


def test_the_readme_table_does_not_depend_on_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings_table()
    monkeypatch.setenv("PORT", "4000")
    assert settings_table() == before
