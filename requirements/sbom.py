"""Write what is installed beside this Python as a CycloneDX document, to standard output.

Takes the report of the `pip install` of the lock and our own wheel: they know the hashes, the
installed metadata knows all else. Base image and operating system are not in it.
"""

import hashlib
import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

OWN = "user-story-service"
_CLASSIFIER = "License :: "


def main(report: Path, wheel: Path) -> None:
    """Write the document; KeyError for a distribution that neither of the two has brought."""
    hashes = _hashes(json.loads(report.read_bytes()))
    hashes[OWN] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    components = sorted(
        (_component(each, hashes) for each in distributions()), key=lambda each: str(each["name"])
    )
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": next(c for c in components if c["name"] == OWN)},
        "components": [each for each in components if each["name"] != OWN],
    }
    json.dump(document, sys.stdout, indent=1)


def _hashes(report: dict[str, Any]) -> dict[str, str]:
    return {
        _canonical(each["metadata"]["name"]): _sha256(each["download_info"]["archive_info"])
        for each in report["install"]
    }


def _sha256(archive: dict[str, Any]) -> str:
    # Only pip from 23.1 on writes `hashes`.
    algorithm, _, digest = archive["hash"].partition("=")
    return dict(archive.get("hashes") or {algorithm: digest})["sha256"]


def _component(found: Distribution, hashes: dict[str, str]) -> dict[str, Any]:
    name = _canonical(found.metadata["Name"])
    reference = f"pkg:pypi/{name}@{found.version}"
    return {
        "type": "application" if name == OWN else "library",
        "bom-ref": reference,
        "name": name,
        "version": found.version,
        "purl": reference,
        "licenses": _licenses(found),
        "hashes": [{"alg": "SHA-256", "content": hashes[name]}],
    }


def _licenses(found: Distribution) -> list[dict[str, Any]]:
    expression = found.metadata.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    classifiers = found.metadata.get_all("Classifier") or []
    named = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith(_CLASSIFIER)]
    # Some distributions put the whole text of their licence here.
    named = named or (found.metadata.get("License") or "").strip().splitlines()[:1]
    return [{"license": {"name": each}} for each in named]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
