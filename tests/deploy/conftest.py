"""The image, built once for all tests of it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fixtures.images import Image, build_image
from tests.fixtures.tools import needed_root


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The image of this checkout, mounted; gone after the session, as it takes half a gigabyte."""
    needed_root()
    with TemporaryDirectory(prefix="usa-image-") as folder:
        yield build_image(Path(folder))
