"""`make contract`: many requests made from the served description, and what was answered."""

import argparse
import os
import sys

import pytest

from tests.contract import REQUESTS


def main() -> int:
    """Run schemathesis over everything that is described; exit code 1 if anything is not so."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, help="how many, at least")
    os.environ["USA_REQUIRE_TOOLS"] = "1"
    os.environ[REQUESTS] = str(parser.parse_args().requests)
    return pytest.main(["-s", "-q", "tests/contract/test_description.py"])


if __name__ == "__main__":
    sys.exit(main())
