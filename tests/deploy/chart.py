"""The Helm chart as Helm's own engine renders it, and the sets of values it is tried with."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.fixtures.tools import needed_module

helm = needed_module("helm_python")
yaml = needed_module("yaml")

CHART = Path(__file__).parents[2] / "helm" / "user-story-service"
NAME = "usa-user-story-service"

Document = dict[str, Any]

VALUES: dict[str, Document] = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted((Path(__file__).parent / "values").glob("*.yaml"))
}


@cache
def chart() -> Any:
    """Return the chart, loaded once."""
    return helm.Chart.load(CHART)


def render_texts(values: Document | None = None, release: str = "usa") -> dict[str, str]:
    """Return what every template of the chart makes, by its path."""
    texts: dict[str, str] = chart().render(values or {}, name=release, namespace="stories")
    return texts


def render(values: Document | None = None, release: str = "usa") -> dict[str, Document]:
    """Return every object of a release by kind and name."""
    documents: Iterator[Document] = (
        document
        for path, text in render_texts(values, release).items()
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    )
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in documents}


def pod_specs(objects: dict[str, Document]) -> dict[str, Document]:
    """Return the pod of every workload, by its component."""
    templates = [d["spec"]["template"] for d in objects.values() if "template" in d.get("spec", {})]
    label = "app.kubernetes.io/component"
    return {t["metadata"]["labels"][label]: t["spec"] for t in templates}


def merged(base: Document, over: Document) -> Document:
    """Return values as Helm would put them together."""
    both = {**base, **over}
    for key in base.keys() & over.keys():
        if isinstance(base[key], dict) and isinstance(over[key], dict):
            both[key] = merged(base[key], over[key])
    return both
