"""What a workflow would do and cost, without a job."""

from aiohttp import web

from service.api.dependencies import DEPENDENCIES
from service.api.parameters import read_choice, read_product_type, read_verify
from service.api.preview_documents import WorkflowPreviewDocument
from service.domain.models import DEFAULT_QUALITY, PRESETS


async def preview_workflow(request: web.Request) -> web.StreamResponse:
    """Answer with the iterations that would run, and estimates of their calls and cost."""
    product_type, verify = read_product_type(request), read_verify(request)
    preview = request.config_dict[DEPENDENCIES].previewer.preview(
        product_type,
        quality=read_choice(request, "quality", PRESETS) or DEFAULT_QUALITY,
        model=request.query.get("model"),
        verify=verify,
    )
    document = WorkflowPreviewDocument.of(preview, product_type=product_type, verify=verify)
    return document.respond()
