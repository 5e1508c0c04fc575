"""Turns the body of a submission into a job that can be accepted."""

import hashlib
import json
import os
from collections.abc import Mapping
from time import time_ns
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from service.api.auth import PRINCIPAL
from service.api.bodies import read_object, validated
from service.api.dependencies import DEPENDENCIES
from service.api.middleware import REQUEST_ID, TRACE_PARENT
from service.api.parameters import read_idempotency_key
from service.domain.errors import FieldError, InvalidInput
from service.domain.iterations import DEFAULT_ITERATIONS, ITERATIONS, PRODUCT_TYPES
from service.domain.job import DEFAULT_AGENT, JsonObject, NewJob
from service.domain.models import DEFAULT_QUALITY, PRESETS, lasting_models
from service.domain.tiers import TIERS, Tier
from service.domain.uuid7 import RANDOM_BYTES, uuid7
from service.ports.agent import Agent, AgentPlan

# JSON may spend six bytes on one of the story's; the rest is for the options.
LARGEST_BODY: Final = 6 * max(tier.story_bytes for tier in TIERS.values()) + 131_072

_ECHO = 80
_TEXT = {"type": "string"}
_ITERATIONS_SCHEMA = {
    "type": "array",
    "items": {"type": "string", "enum": [*ITERATIONS]},
    "description": "Only in the mode `individual`: ids of iterations, run in registry order. "
    f"Without it: {', '.join(DEFAULT_ITERATIONS)}.",
    "examples": [["validation", "accessibility"]],
}
# Each agent validates its own options; these are the ones of the default agent.
_OPTIONS_SCHEMA: JsonObject = {
    "type": "object",
    "description": f"How the agent works; these are the options of `{DEFAULT_AGENT}`.",
    "properties": {
        "verify": {
            "type": "boolean",
            "default": True,
            "description": "Whether a second call reviews each iteration.",
        },
        "productType": {
            "type": "string",
            "enum": [*PRODUCT_TYPES],
            "description": "What the story is for; the mode `workflow` needs it.",
        },
        "productContext": {
            "type": "object",
            "description": "Facts about the product.",
            "properties": {
                "name": _TEXT,
                "description": _TEXT,
                "audience": _TEXT,
                "keyFeatures": {"type": "array", "items": _TEXT},
            },
        },
        "quality": {
            "type": "string",
            "enum": [*PRESETS],
            "default": DEFAULT_QUALITY,
            "description": "Which models write and review.",
        },
        "model": {
            "type": "string",
            "enum": [*lasting_models()],
            "description": "One model for everything, instead of a quality.",
        },
        "deadlineSeconds": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "How long after its submission the job fails for good.",
        },
    },
    "examples": [{"quality": "fast", "productType": "web"}],
}


class Submission(BaseModel):
    """A story and what to do with it; `story` alone is enough."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"story": "As a user, I want to log in"}]},
    )

    story: str = Field(
        description="The user story as plain text.",
        examples=["As a user, I want to log in"],
        # How much there must be is for the agent to say.
        json_schema_extra={"minLength": 1},
    )
    iterations: Annotated[
        Annotated[list[str], Field(fail_fast=True)] | None, WithJsonSchema(_ITERATIONS_SCHEMA)
    ] = None
    mode: Literal["individual", "workflow"] = Field(
        "individual",
        description="`individual` runs the given iterations, `workflow` all that apply to "
        "`options.productType` and then a consolidation.",
    )
    agent: str = Field(DEFAULT_AGENT, description="Who does the work.")
    options: Annotated[dict[str, Any], WithJsonSchema(_OPTIONS_SCHEMA)] = Field({})


async def read_new_job(request: web.Request) -> NewJob:
    """Read a submission, check it against the caller's tier and let its agent plan it.

    Raises `InvalidInput`, with status 413 for a story that is too large.
    """
    dependencies = request.config_dict[DEPENDENCIES]
    principal = request[PRINCIPAL]
    key = read_idempotency_key(request)
    document = await _read_document(request, principal.tier)
    submission = validate(document)
    principal.tier.check_story(submission.story)
    plan = _plan(dependencies.agents, submission)
    principal.tier.check_iterations(len(plan.iterations))
    return NewJob(
        id=uuid7(time_ns() // 1_000_000, os.urandom(RANDOM_BYTES)),
        owner=principal.owner,
        agent=submission.agent,
        mode=submission.mode,
        story=submission.story,
        iterations=plan.iterations,
        options=plan.options,
        deadline_seconds=plan.options.get("deadlineSeconds") or dependencies.default_deadline,
        tier=principal.tier,
        reserved_tokens=plan.estimated_tokens,
        trace_parent=request.get(TRACE_PARENT),
        request_id=request[REQUEST_ID],
        idempotency_key=key,
        fingerprint=None if key is None else fingerprint(document),
    )


async def _read_document(request: web.Request, tier: Tier) -> JsonObject:
    try:
        return await read_object(request)
    except web.HTTPRequestEntityTooLarge:
        raise tier.story_refusal(f"the body has more than {LARGEST_BODY} bytes") from None


def validate(document: JsonObject) -> Submission:
    """Check the form of a submission; raises `InvalidInput` naming each bad field."""
    return validated(Submission, document, "submission")


def _plan(agents: Mapping[str, Agent], submission: Submission) -> AgentPlan:
    agent = agents.get(submission.agent)
    if agent is None:
        message = f"{submission.agent[:_ECHO]!r} is not one of {', '.join(agents)}"
        raise InvalidInput(message, errors=[FieldError("agent", message)])
    return agent.plan(submission.story, submission.mode, submission.iterations, submission.options)


def fingerprint(document: JsonObject) -> bytes:
    """Hash a body by what it says, not by how it is written."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).digest()
