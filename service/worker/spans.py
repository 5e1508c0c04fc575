"""What a trace says about an attempt and its model calls."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from service.domain.attempt import Claim, Fence
from service.domain.errors import JobFailure
from service.domain.iterations import ITERATIONS
from service.domain.job import Job
from service.domain.traces import nearest
from service.domain.usage import UsageMeter
from service.ports.model import Model, ModelRequest
from service.telemetry.tracing import Attributes, Kind, Span, span


def attempt_span(claim: Claim, job: Job) -> AbstractContextManager[Span]:
    """Trace an attempt in the trace of its job, linked with the attempt that it goes on after."""
    delivery = claim.delivery
    # One that was not cut short by an error, a crash or a hand-back has nothing to go on after.
    goes_on = job.error_count or job.crash_count or job.handback_count
    return span(
        Kind.CONSUMER,
        f"process {delivery.stream}",
        parent=nearest(delivery.trace_parent, job.trace_parent),
        attempt=claim.fence,
        follows=Fence(job.id, job.attempt - 1) if goes_on else None,
        attributes={
            "messaging.system": "redis",
            "messaging.operation.type": "process",
            "messaging.destination.name": delivery.stream,
            "messaging.message.id": delivery.entry_id,
            "usa.job": str(job.id),
            "usa.attempt": job.attempt,
            "usa.agent": job.agent,
        },
    )


@contextmanager
def call_span(step: str, model: Model, request: ModelRequest, meter: UsageMeter) -> Iterator[None]:
    """Trace one model call, however it ends."""
    # The steps of an agent that is not ours may be made of what users wrote.
    iteration = step.partition("/")[0]
    about: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": model.name,
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": request.max_output_tokens,
        "usa.purpose": request.purpose,
        "usa.iteration": iteration if iteration in ITERATIONS else None,
    }
    with span(Kind.CLIENT, f"chat {request.model}", attributes=about) as call:
        try:
            yield
        except BaseException as error:
            call.fail(error.code if isinstance(error, JobFailure) else type(error).__name__)
            raise
        finally:
            call.note(
                {
                    "gen_ai.response.model": meter.model,
                    "gen_ai.usage.input_tokens": meter.usage.total - meter.usage.output,
                    "gen_ai.usage.output_tokens": meter.usage.output,
                    "gen_ai.usage.cache_read.input_tokens": meter.usage.cache_read,
                    "gen_ai.usage.cache_write.input_tokens": meter.usage.cache_write,
                    "anthropic.request.id": meter.request_id,
                }
            )
