"""The iterations a story can go through; their prompts are never shown."""

from aiohttp import web

from service.api.documents import IterationDocument, IterationList
from service.api.parameters import read_choice
from service.api.problems import Problem
from service.domain.iterations import ITERATIONS, PRODUCT_TYPES, applicable, find_iteration

CATEGORIES = tuple(dict.fromkeys(iteration.category for iteration in ITERATIONS.values()))


async def list_iterations(request: web.Request) -> web.StreamResponse:
    """Answer with the iterations a submission may choose, in the order they run in."""
    product_type = read_choice(request, "productType", PRODUCT_TYPES)
    category = read_choice(request, "category", CATEGORIES)
    candidates = applicable(product_type) if product_type else ITERATIONS.values()
    listed = [
        IterationDocument.of(iteration)
        for iteration in candidates
        if category in {None, iteration.category}
    ]
    return IterationList(iterations=listed).respond()


async def get_iteration(request: web.Request) -> web.StreamResponse:
    """Answer with one iteration, also one that a job has but a submission cannot choose."""
    iteration = find_iteration(request.match_info["id"])
    if iteration is None:
        raise Problem(status=404, code="NOT_FOUND", detail="there is no such iteration")
    return IterationDocument.of(iteration).respond()
