"""What the real API refuses, in the order in which it looks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.agent.model_stub.schema_rules import schema_violation
from service.domain.job import JsonObject
from service.domain.models import KNOWN_MODELS

_FIELDS = frozenset(
    {
        "cache_control",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
_BLOCK_FIELDS = frozenset({"type", "text", "cache_control", "citations"})
_SAMPLING = ("temperature", "top_p", "top_k")
_EFFORTS = (None, "low", "medium", "high", "xhigh", "max")
_MAX_BREAKPOINTS = 4


@dataclass(frozen=True, slots=True)
class Rejection:
    """How a request is turned down."""

    status: int
    error_type: str
    message: str
    error_code: str | None = None


def _bad(message: str) -> Rejection:
    return Rejection(400, "invalid_request_error", message)


def check_headers(headers: Mapping[str, str], api_key: str | None) -> Rejection | None:
    """Check who asks, and in which version; any key will do unless one is given."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if not key:
        return Rejection(401, "authentication_error", "x-api-key header is required")
    if api_key is not None and key != api_key:
        return Rejection(401, "authentication_error", "invalid x-api-key")
    if not headers.get("anthropic-version"):
        return _bad("anthropic-version: header is required")
    return None


def check_body(body: object) -> Rejection | None:
    """Check a request body; None means that the real API would answer it."""
    if not isinstance(body, dict):
        return _bad("Input should be a valid dictionary")
    for check in _CHECKS:
        if (rejection := check(body)) is not None:
            return rejection
    return None


def blocks_of(content: object) -> list[dict[str, Any]]:
    """Return `system` or a message's `content` as blocks, whichever form it was sent in."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, dict)]


def _check_fields(body: JsonObject) -> Rejection | None:
    for name in _SAMPLING:
        if name in body:
            return _bad(f"{name}: sampling parameters are not supported by this model")
    extra = body.keys() - _FIELDS
    if extra:
        return _bad(f"{min(extra)}: Extra inputs are not permitted")
    missing = {"model", "max_tokens", "messages"} - body.keys()
    if missing:
        return _bad(f"{min(missing)}: Field required")
    if body.get("stream") is not True:
        return _bad("stream: this stub only streams")
    return None


def _check_model(body: JsonObject) -> Rejection | None:
    model = KNOWN_MODELS.get(str(body["model"]))
    if model is None:
        return Rejection(404, "not_found_error", f"model: {body['model']}")
    limit = body["max_tokens"]
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        return _bad("max_tokens: Input should be a valid integer greater than 0")
    if limit > model.max_output:
        return _bad(f"max_tokens: {limit} > {model.max_output}, the maximum of {model.id}")
    return None


def _check_messages(body: JsonObject) -> Rejection | None:
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        return _bad("messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            return _bad(f"messages.{index}.role: Input should be 'user' or 'assistant'")
        if extra := message.keys() - {"role", "content"}:
            return _bad(f"messages.{index}.{min(extra)}: Extra inputs are not permitted")
        if (problem := _content_problem(message.get("content"))) is not None:
            return _bad(f"messages.{index}.content: {problem}")
    if messages[0]["role"] != "user":
        return _bad("messages: first message must use the user role")
    if messages[-1]["role"] == "assistant":
        return _bad("This model does not support assistant message prefill")
    return None


def _check_system(body: JsonObject) -> Rejection | None:
    if "system" not in body or body["system"] in ("", []):
        return None
    problem = _content_problem(body["system"])
    return None if problem is None else _bad(f"system: {problem}")


def _content_problem(content: object) -> str | None:
    if not isinstance(content, str | list):
        return "Input should be a string or a list of blocks"
    blocks = blocks_of(content)
    if not blocks or (isinstance(content, list) and len(blocks) < len(content)):
        return "must be non-empty blocks"
    for block in blocks:
        text = block.get("text")
        if block.get("type") != "text" or not isinstance(text, str):
            return "only text blocks are supported by this stub"
        if not text.strip():
            return "text content blocks must contain non-whitespace text"
        if block.keys() - _BLOCK_FIELDS:
            return f"{min(block.keys() - _BLOCK_FIELDS)}: Extra inputs are not permitted"
    return None


def _check_caching(body: JsonObject) -> Rejection | None:
    marks = list(_cache_marks(body))
    if len(marks) > _MAX_BREAKPOINTS:
        return _bad(
            f"A maximum of {_MAX_BREAKPOINTS} blocks with cache_control may be provided. "
            f"Found {len(marks)}."
        )
    for mark in marks:
        if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
            return _bad("cache_control.type: Input should be 'ephemeral'")
        if mark.get("ttl", "5m") not in ("5m", "1h"):
            return _bad("cache_control.ttl: Input should be '5m' or '1h'")
        if extra := mark.keys() - {"type", "ttl"}:
            return _bad(f"cache_control.{min(extra)}: Extra inputs are not permitted")
    return None


def _cache_marks(body: JsonObject) -> Iterator[object]:
    carriers = [body, *blocks_of(body.get("system")), *blocks_of(body.get("tools"))]
    for message in body["messages"]:
        carriers.extend(blocks_of(message.get("content")))
    for carrier in carriers:
        if carrier.get("cache_control") is not None:
            yield carrier["cache_control"]


def _check_thinking(body: JsonObject) -> Rejection | None:
    thinking = body.get("thinking")
    if thinking is None:
        return None
    if not isinstance(thinking, dict) or "budget_tokens" in thinking:
        return _bad("thinking.budget_tokens: thinking budgets are not supported by this model")
    if thinking.get("type") != "adaptive":
        return _bad("thinking.type: Input should be 'adaptive' for this model")
    return None


def _check_tools(body: JsonObject) -> Rejection | None:
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool"):
        return _bad("tool_choice: forced tool use is not supported by this model")
    return None


def _check_output_config(body: JsonObject) -> Rejection | None:
    config = body.get("output_config")
    if config is None:
        return None
    if not isinstance(config, dict) or config.keys() - {"format", "effort"}:
        return _bad("output_config: Extra inputs are not permitted")
    if config.get("effort") not in _EFFORTS:
        return _bad("output_config.effort: unknown effort")
    wanted = config.get("format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return _bad("output_config.format.type: Input should be 'json_schema'")
    if extra := wanted.keys() - {"type", "schema"}:
        return _bad(f"output_config.format.{min(extra)}: Extra inputs are not permitted")
    problem = schema_violation(wanted.get("schema"))
    return None if problem is None else _bad(f"output_config.format.{problem}")


_CHECKS: tuple[Callable[[JsonObject], Rejection | None], ...] = (
    _check_fields,
    _check_model,
    _check_messages,
    _check_system,
    _check_caching,
    _check_thinking,
    _check_tools,
    _check_output_config,
)
