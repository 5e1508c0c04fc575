"""What the operations on iterations and workflows take, answer and refuse."""

from collections.abc import Mapping
from typing import Final

from service.api.documents import IterationDocument, IterationList
from service.api.iterations import CATEGORIES
from service.api.operation import Operation, Parameter, choice, json_answer
from service.api.preview_documents import WorkflowPreviewDocument
from service.domain.iterations import PRODUCT_TYPES
from service.domain.models import DEFAULT_QUALITY, PRESETS, lasting_models

ITERATION_OPERATIONS: Final[Mapping[str, Operation]] = {
    "list_iterations": Operation(
        tag="iterations",
        summary="List the iterations a story can go through",
        description="In the order they run in.",
        parameters=(
            choice("productType", "Only those that apply to it.", PRODUCT_TYPES),
            choice("category", "Only those of this category.", CATEGORIES),
        ),
        answers={200: json_answer("The iterations.", IterationList)},
        problems=(400,),
    ),
    "get_iteration": Operation(
        tag="iterations",
        summary="Read one iteration",
        description="What it looks at and what it may change.",
        parameters=(
            Parameter(
                "id", "path", "The iteration's id.", {"type": "string"}, example="validation"
            ),
        ),
        answers={200: json_answer("The iteration.", IterationDocument)},
        problems=(404,),
    ),
    "preview_workflow": Operation(
        tag="iterations",
        summary="Preview a workflow",
        description="Which iterations the mode `workflow` would run, and estimates of its calls, "
        "tokens and cost: at least, usually (what a submission reserves) and at most. They are for "
        "a story of `assumedStoryCharacters` and for replies of usual length, and leave out what "
        "a cache saves. Nothing is queued and nothing is paid.",
        parameters=(
            Parameter(
                "productType",
                "query",
                "What the story is for.",
                {"type": "string", "enum": [*PRODUCT_TYPES]},
                is_required=True,
                example="web",
            ),
            Parameter(
                "quality",
                "query",
                "Which models write and review.",
                {"type": "string", "enum": [*PRESETS], "default": DEFAULT_QUALITY},
            ),
            Parameter(
                "model",
                "query",
                "One model for everything, instead of a quality.",
                {"type": "string", "enum": [*lasting_models()]},
            ),
            Parameter(
                "verify",
                "query",
                "Whether a second call reviews each iteration.",
                {"type": "boolean", "default": True},
            ),
        ),
        answers={200: json_answer("What would happen.", WorkflowPreviewDocument)},
        problems=(400,),
    ),
}
