"""Agents of other distributions are found by their entry point, or named when they are broken."""

import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from service.bootstrap.agents import planning_agents, running_agents
from service.bootstrap.plug_ins import BrokenPlugIn
from service.domain.errors import InvalidInput
from service.domain.job import JsonObject
from service.settings import Settings
from tests.fixtures.plug_ins import PLUG_IN, install

Install = Callable[..., None]

AGENT = """
class Agent:
    def __init__(self, model):
        self.name, self.model = {name!r}, model
    def plan(self, story, mode, iterations, options): ...
    def snapshot(self, job, checkpoints): ...
    async def run(self, attempt): ...
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution for this test; its module gets a name that no other test has."""

    def put(distribution: str, name: str, source: str = "", target: str = "Agent") -> None:
        module = f"module_{uuid4().hex}"
        folder = install(tmp_path / module, distribution, f"{name} = {module}:{target}", source)
        monkeypatch.syspath_prepend(str(folder))

    return put


def settings(*, test_agents: bool = False) -> Settings:
    return Settings(model="offline", test_agents=test_agents)


def broken(*, test_agents: bool = False) -> str:
    with pytest.raises(BrokenPlugIn) as caught:
        planning_agents(settings(test_agents=test_agents))
    return str(caught.value)


def test_without_any_there_are_only_our_own_agents() -> None:
    assert list(planning_agents(settings())) == ["user-story"]


async def test_an_installed_agent_can_be_named_and_gets_the_model_that_runs_jobs(
    installed: Install,
) -> None:
    installed("usa-poems", "poems", AGENT.format(name="poems"))
    planning = planning_agents(settings())
    assert list(planning) == ["user-story", "poems"]
    assert getattr(planning["poems"], "model", "") is None
    async with running_agents(settings()) as running:
        model = getattr(running["poems"], "model", None)
        assert model is not None
        assert model.name == "offline"


def test_several_are_offered_in_the_order_of_their_names(installed: Install) -> None:
    for name in ("zebra", "ant"):
        installed(f"usa-{name}", name, AGENT.format(name=name))
    assert list(planning_agents(settings())) == ["user-story", "ant", "zebra"]


def test_one_that_cannot_be_imported_is_named(installed: Install) -> None:
    installed("usa-poems", "poems", "import no_such_module")
    told = broken()
    assert "usa-poems 2.1 (entry point poems = module_" in told
    assert "No module named 'no_such_module'" in told


def test_one_whose_module_or_object_is_missing_is_named(installed: Install) -> None:
    installed("usa-poems", "poems", "x = 1")
    assert "usa-poems 2.1" in (told := broken())
    assert "Agent" in told


def test_one_that_cannot_be_made_is_named(installed: Install) -> None:
    installed("usa-poems", "poems", "def Agent(model): raise RuntimeError('no rhymes')")
    assert "usa-poems 2.1" in (told := broken())
    assert "RuntimeError: no rhymes" in told


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def Agent(model): return 7", "whose `name` is 'poems'"),
        (AGENT.format(name="prose"), "whose `name` is 'poems'"),
        ("class Agent:\n    name = 'poems'\n    def __init__(self, model): ...", "`plan`"),
        (AGENT.format(name="poems").replace("snapshot", "snap"), "`snapshot`"),
        (AGENT.format(name="poems").replace("async def", "def"), "coroutine method `run`"),
        ("Agent = 7", "'int' object is not callable"),
    ],
    ids=["no agent", "another name", "no plan", "no snapshot", "run is not async", "no factory"],
)
def test_one_that_is_no_agent_is_named_with_what_it_lacks(
    installed: Install, source: str, said: str
) -> None:
    installed("usa-poems", "poems", source)
    assert "usa-poems 2.1" in (told := broken())
    assert said in told


@pytest.mark.parametrize("name", ["Poems", "two words", "ü", "x" * 64])
def test_a_name_that_no_job_should_have_is_refused(installed: Install, name: str) -> None:
    installed("usa-poems", name, AGENT.format(name=name))
    assert "small letters" in broken()


def test_a_name_of_ours_is_taken(installed: Install) -> None:
    installed("usa-poems", "user-story", AGENT.format(name="user-story"))
    assert "usa-poems 2.1" in (told := broken())
    assert "taken by this service" in told


def test_a_name_of_our_test_agents_is_taken_where_they_are_offered(installed: Install) -> None:
    installed("usa-poems", "sleep", AGENT.format(name="sleep"))
    assert "sleep" in planning_agents(settings())
    assert "taken by this service" in broken(test_agents=True)


def test_two_of_the_same_name_are_both_named(installed: Install) -> None:
    installed("usa-poems", "poems", AGENT.format(name="poems"))
    installed("usa-verses", "poems", AGENT.format(name="poems"))
    told = broken()
    assert "usa-poems 2.1" in told
    assert "usa-verses 2.1" in told


# --- the example ------------------------------------------------------------------------------


@pytest.fixture
def with_glossary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUG_IN))
    monkeypatch.delitem(sys.modules, "usa_glossary", raising=False)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, ["options.terms"]),
        ({"terms": []}, ["options.terms"]),
        ({"terms": ["order", 7, ""]}, ["options.terms[1]", "options.terms[2]"]),
        ({"terms": ["order"], "verify": True}, ["options.verify"]),
    ],
)
def test_the_example_checks_its_options_by_its_own_model(
    with_glossary: None, options: JsonObject, fields: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        planning_agents(settings())["glossary"].plan("x", "individual", None, options)
    assert [error.field for error in caught.value.errors] == fields


def test_the_example_explains_each_term_once(with_glossary: None) -> None:
    agent = planning_agents(settings())["glossary"]
    plan = agent.plan("x", "individual", None, {"terms": ["order", "customer", "order"]})
    assert plan.iterations == ("order", "customer")
    assert plan.estimated_tokens == 1000
