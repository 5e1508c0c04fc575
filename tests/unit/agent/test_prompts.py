"""One prompt per iteration, and the two output schemas."""

from pathlib import Path

import pytest

from service.agent.model_stub.schema_rules import schema_violation
from service.agent.prompts import PromptMismatch, load_prompts
from service.agent.replies import DRAFT_SCHEMA, VERIFICATION_SCHEMA
from service.domain.iterations import CONSOLIDATION, ITERATIONS

_CACHEABLE_CHARACTERS = 4 * 1024


def test_every_iteration_has_its_prompt_and_the_shared_rules_are_long_enough_to_be_cached() -> None:
    prompts = load_prompts()
    assert set(prompts.by_iteration) == {*ITERATIONS, CONSOLIDATION.id}
    assert len(prompts.patching) + len(prompts.shared) > _CACHEABLE_CHARACTERS
    assert len(prompts.shared) + len(prompts.verification) > _CACHEABLE_CHARACTERS
    assert len(set(prompts.by_iteration.values())) == len(prompts.by_iteration)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"shared": "x", "verification": "x", "validation": "x"}, "patching.md is missing"),
        (
            {"shared": "x", "patching": "x", "verification": "x"},
            "validation.md is missing or empty",
        ),
        (
            {"shared": "x", "patching": "x", "verification": "x", "validation": " \n"},
            "validation.md is missing or empty",
        ),
        (
            {"shared": "x", "patching": "x", "verification": "x", "validation": "x", "extra": "x"},
            "extra.md belongs to no iteration",
        ),
    ],
)
def test_a_missing_an_empty_and_a_left_over_prompt_fail_at_start(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.md").write_text(text)
    with pytest.raises(PromptMismatch, match=problem):
        load_prompts(tmp_path, ["validation"])


def test_both_schemas_are_accepted_by_structured_outputs() -> None:
    assert schema_violation(DRAFT_SCHEMA) is None
    assert schema_violation(VERIFICATION_SCHEMA) is None
