"""Extras that a setting needs, and that not everybody installs."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.errors import ServiceError


class MissingExtra(ServiceError):
    """A setting needs an extra that is not installed."""


@contextmanager
def needing_extra(name: str, variable: str) -> Iterator[None]:
    """Import inside this block what the extra brings; raises `MissingExtra`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{variable} needs the extra `{name}` ({error.name} is not installed): "
            f"pip install 'user-story-service[{name}]'"
        ) from error
