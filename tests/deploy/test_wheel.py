"""The wheel has every file that the code reads, and nothing else."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.fixtures.tools import needed_module

ROOT = Path(__file__).parents[2]

needed_module("hatchling")


def test_the_wheel_is_the_package_with_its_sql_lua_prompts_and_page(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(tmp_path)], cwd=ROOT, check=True)

    [wheel] = tmp_path.glob("*.whl")
    packed = {n for n in ZipFile(wheel).namelist() if ".dist-info/" not in n}
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "service").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == sources
    kinds = {Path(name).suffix for name in packed}
    assert {".py", ".sql", ".lua", ".md", ".typed"} <= kinds
