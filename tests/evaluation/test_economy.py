"""What a workflow in patches costs beside one that rewrites the story in each iteration."""

import pytest

from tests.evaluation.cases import find_case
from tests.evaluation.economy import (
    BOUNDS,
    ITERATIONS,
    LEAN,
    PATCHES,
    WAYS,
    bills,
    broken_bounds,
    table_of,
    workflows,
)

CASES = workflows()


@pytest.mark.parametrize("verify", [False, True])
async def test_patches_take_no_more_of_what_rewriting_takes_than_is_promised(
    verify: bool,
) -> None:
    by_way = await bills(CASES, verify=verify)
    assert len(CASES) >= 8
    assert list(broken_bounds(by_way, verify=verify)) == []
    # With these two the other way round, every bound is broken.
    swapped = dict.fromkeys(WAYS, by_way[PATCHES]) | {PATCHES: by_way[LEAN]}
    broken = list(broken_bounds(swapped, verify=verify))
    assert len(broken) >= 2 * sum(is_verified is verify for _, is_verified in BOUNDS)


async def test_a_story_is_counted_the_same_each_time_and_drafts_share_their_beginning() -> None:
    case = find_case("web-sign-in")
    once, again = await bills([case], verify=True), await bills([case], verify=True)
    assert once == again
    for bill in once.values():
        assert bill.usage.cache_read > bill.usage.cache_write > 0
    shown = table_of(once, once, 1)
    assert f"1 stories, {ITERATIONS} iterations each" in shown
    assert f"{once[PATCHES].prompts}" in shown
