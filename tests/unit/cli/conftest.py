"""No command of these tests sees the settings of whoever runs them."""

from pathlib import Path

import pytest

from service.cli.variables import SETTINGS, variables_of


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unset every variable of ours, in an empty working folder."""
    for kind in SETTINGS.values():
        for name in kind.model_fields:
            for variable in variables_of(kind, name):
                monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
