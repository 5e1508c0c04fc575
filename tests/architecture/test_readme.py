"""What the README says about the code is so."""

import re
from dataclasses import fields

import pytest

from service.bootstrap.plug_ins import GROUP
from service.cli.config import settings_table
from service.domain.events import EventType
from service.domain.tiers import TIERS, Tier
from tests.fixtures.plug_ins import PLUG_IN
from tests.fixtures.readme import README, ROOT, event_members, rows, section

CRITERIA = rows("What USA-38 asks for")


def test_its_settings_are_those_of_the_code() -> None:
    assert settings_table() in section("Settings")


def test_its_code_map_shows_every_room_and_nothing_else() -> None:
    shown = [re.findall(r"`service/(\w+)`", module)[0] for _, module, _ in rows("Code map")]
    children = (ROOT / "service").iterdir()
    there = {path.stem for path in children if path.suffix in {"", ".py"}}
    assert sorted(shown) == sorted(there - {"__init__", "__main__", "__pycache__"})


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda row: str(row[0]))
def test_each_criterion_names_code_and_a_test_that_exist(criterion: list[str]) -> None:
    _, where, proof = criterion
    code = re.findall(r"`(service/[\w./-]+)`", where)
    tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", proof)
    assert code != []
    assert tests != []
    assert [path for path in code if not (ROOT / path).exists()] == []
    for path, name in tests:
        assert f"def {name or 'test_'}" in (ROOT / path).read_text()


def test_all_ten_criteria_are_there() -> None:
    assert len(CRITERIA) == 10


def test_its_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets != []
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_its_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {t for t in targets if not re.search(rf"^{t}:", makefile, re.MULTILINE)} == set()


def test_its_example_of_an_agent_is_the_one_that_tests_run() -> None:
    text = section("Your own agent")
    assert f"```python\n{(PLUG_IN / 'usa_glossary.py').read_text()}```" in text
    installed = (PLUG_IN / "usa_glossary-1.0.dist-info" / "entry_points.txt").read_text()
    group, entry = installed.splitlines()
    assert group == f"[{GROUP}]"
    quoted = entry.replace("= ", '= "')
    assert f'[project.entry-points."{GROUP}"]\n{quoted}"\n' in text


def test_its_limits_are_those_of_the_tiers() -> None:
    shown = {name: limits for name, *limits in rows("Limits")}
    meant = {
        "submissions per minute": "requests_per_minute",
        "submissions per day": "requests_per_day",
        "tokens per day": "tokens_per_day",
        "bytes of a story": "story_bytes",
        "iterations per job": "iterations_per_job",
        "jobs queued or processing": "concurrent_jobs",
        "reads per minute": "reads_per_minute",
        "open streams": "open_streams",
        "open `?wait=`": "open_waits",
    }
    assert {*meant.values(), "name"} == {field.name for field in fields(Tier)}
    assert f"| | {' | '.join(TIERS)} |\n" in section("Limits")
    assert shown == {
        name: [_written(getattr(tier, limit)) for tier in TIERS.values()]
        for name, limit in meant.items()
    }


def _written(limit: int | None) -> str:
    return "-" if limit is None else f"{limit:,}".replace(",", " ")


def test_every_event_is_told() -> None:
    assert list(event_members()) == [each.value for each in EventType]
