"""When another iteration may begin."""

import pytest

from service.domain.quota import TokenDay


@pytest.mark.parametrize(
    ("limit", "used", "has_room"),
    [(None, 10**9, True), (100, 70, True), (100, 71, False), (10, 0, True), (10, 1, False)],
)
def test_an_iteration_begins_if_it_fits_or_is_the_first_of_the_day(
    limit: int | None, used: int, has_room: bool
) -> None:
    day = TokenDay(limit=limit, used=used, expected=30, seconds_left=60.0)

    assert day.has_room is has_room
