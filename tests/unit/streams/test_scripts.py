"""Scripts and the functions that declare them agree, or nothing starts."""

from collections.abc import Sequence
from inspect import Parameter, Signature

import pytest

from service.streams import scripts
from service.streams.scripts import Script


def test_a_call_becomes_the_number_of_keys_the_keys_and_the_arguments_in_order() -> None:
    assert scripts.release_if_owner.arguments(
        stream="s", group="g", consumer="c", idle_ms=5, entry_ids=["1-1", "1-2"]
    ) == [1, "s", "g", "c", 5, "1-1", "1-2"]


def test_a_function_whose_parameters_are_not_those_of_its_file_is_refused() -> None:
    def ack_if_owner(*, stream: str, consumer: str, group: str, entry_ids: Sequence[str]) -> int:
        raise NotImplementedError

    with pytest.raises(TypeError, match="and its function disagree"):
        Script(ack_if_owner)


def test_a_function_without_one_of_the_parameters_of_its_file_is_refused() -> None:
    def renew_if_owner(*, stream: str, group: str, consumer: str) -> int:
        raise NotImplementedError

    with pytest.raises(TypeError, match="disagree"):
        Script(renew_if_owner)


@pytest.mark.parametrize("missing", ["KEYS", "ARGV", "returns"])
def test_a_header_that_lacks_a_line_is_refused(missing: str) -> None:
    lines = {"KEYS": "-- KEYS: stream", "ARGV": "-- ARGV: none", "returns": "-- returns: 1"}
    source = "\n".join(line for label, line in lines.items() if label != missing)
    with pytest.raises(TypeError, match=missing):
        scripts._header(source)


@pytest.mark.parametrize(
    "header", [(["streams..."], ["consumer"]), (["stream"], ["streams...", "consumer"])]
)
def test_a_list_is_only_possible_where_it_cannot_be_mistaken(
    monkeypatch: pytest.MonkeyPatch, header: tuple[list[str], list[str]]
) -> None:
    monkeypatch.setattr(scripts, "_header", lambda _: header)
    names = [name.removesuffix("...") for name in (*header[0], *header[1])]
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY) for name in names]

    def ack_if_owner() -> int:
        raise NotImplementedError

    ack_if_owner.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="only its last argument"):
        Script(ack_if_owner)


def test_a_header_may_name_no_keys_or_no_arguments() -> None:
    header = "-- Sentence.\n-- KEYS: none\n-- ARGV: one, more...\n-- returns: 1"
    assert scripts._header(header) == ([], ["one", "more..."])


def test_a_script_keeps_what_its_function_says_about_it() -> None:
    assert scripts.ack_if_owner.__doc__
    assert "Acknowledge" in scripts.ack_if_owner.__doc__
