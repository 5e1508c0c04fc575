"""Every Prometheus instrument, declared once with its help text and labels."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from service.domain.errors import FailureKind
from service.telemetry.queue_gauge import QueueGauge

# Prometheus 2 would store when each counter began as a series of its own, as many again.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

BUILD = Info("usa_build", "Version and kind of this process.", registry=REGISTRY)
EVENT_LOOP_LAG_SECONDS = Gauge(
    "usa_event_loop_lag_seconds",
    "The most that this process' event loop was late within the last half minute.",
    registry=REGISTRY,
)
POOL_CONNECTIONS = Gauge(
    "usa_pool_connections",
    "Connections of this process: used, idle, and the most there may be.",
    ["pool", "state"],
    registry=REGISTRY,
)

QUEUE_JOBS = QueueGauge(
    "usa_queue_jobs", "Jobs that are due (queued), wait for their time, or run.", ["state"],
    registry=REGISTRY,
)  # fmt: skip
QUEUE_OLDEST_AGE_SECONDS = QueueGauge(
    "usa_queue_oldest_age_seconds",
    "Since when the oldest job is due (queued), was submitted (waiting), or has first started.",
    ["state"],
    registry=REGISTRY,
)
QUEUE_LEASES_EXPIRED = QueueGauge(
    "usa_queue_leases_expired", "Jobs that run by their rows, and whose worker is silent.",
    registry=REGISTRY,
)  # fmt: skip
QUEUE_PAUSED_SECONDS = QueueGauge(
    "usa_queue_paused_seconds", "For how long the queue has been paused; 0 if it is not.",
    registry=REGISTRY,
)  # fmt: skip
DEAD_LETTERS = QueueGauge(
    "usa_dead_letters", "Failed jobs that could be queued again.", registry=REGISTRY
)
STREAM_ENTRIES = QueueGauge(
    "usa_stream_entries", "Entries of a job stream.", ["stream"], registry=REGISTRY
)
STREAM_LAG = QueueGauge(
    "usa_stream_lag", "Entries delivered to nobody yet, where Redis knows.", ["stream"],
    registry=REGISTRY,
)  # fmt: skip
STREAM_PENDING = QueueGauge(
    "usa_stream_pending", "Entries delivered and not acknowledged.", ["stream"], registry=REGISTRY
)

JOBS_ACCEPTED = Counter("usa_jobs_accepted_total", "Jobs committed by POST.", registry=REGISTRY)
JOBS_ENDED = Counter(
    "usa_jobs_ended_total", "Jobs that reached a terminal status.", ["status"], registry=REGISTRY
)
JOBS_REDRIVEN = Counter(
    "usa_jobs_redriven_total", "Failed jobs that were queued again.", registry=REGISTRY
)
JOBS_PURGED = Counter(
    "usa_jobs_purged_total", "Ended jobs that their owners had erased.", registry=REGISTRY
)
SUBMISSIONS_REFUSED = Counter(
    "usa_submissions_refused_total",
    "Submissions that a limit left no room for.",
    ["limit"],
    registry=REGISTRY,
)
ENTRIES_DELIVERED = Counter(
    "usa_entries_delivered_total",
    "Entries that this worker got: new ones, its own again, or reclaimed from a silent one.",
    ["source"],
    registry=REGISTRY,
)
JOBS_CLAIMED = Counter(
    "usa_jobs_claimed_total", "Verdicts on claimed deliveries.", ["verdict"], registry=REGISTRY
)
ATTEMPTS_ENDED = Counter(
    "usa_attempts_ended_total", "Attempts by how they ended.", ["ending"], registry=REGISTRY
)
WRITES_FENCED = Counter(
    "usa_writes_fenced_total",
    "Guarded writes refused because the attempt was no longer current.",
    ["write"],
    registry=REGISTRY,
)
SLOTS = Gauge("usa_worker_slots", "Slots of this worker.", ["state"], registry=REGISTRY)
PAUSED = Gauge(
    "usa_paused", "Whether this worker starts no jobs, because the queue is paused.",
    registry=REGISTRY,
)  # fmt: skip
PICKUP_SECONDS = Histogram(
    "usa_job_pickup_seconds",
    "From due to claimed.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
JOB_SECONDS = Histogram(
    "usa_job_seconds", "From accepted to ended.", ["status"], buckets=_SECONDS, registry=REGISTRY
)
ITERATION_SECONDS = Histogram(
    "usa_iteration_seconds", "From an attempt's first step of an iteration to its last.",
    ["iteration"], buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip

MODEL_CALLS = Counter(
    "usa_model_calls_total", "Model calls by ending.", ["model", "ending"], registry=REGISTRY
)
MODEL_CALL_SECONDS = Histogram(
    "usa_model_call_seconds", "Duration of model calls.", ["model"], buckets=_SECONDS,
    registry=REGISTRY,
)  # fmt: skip
MODEL_TOKENS = Counter(
    "usa_model_tokens_total", "Tokens booked in the ledger.", ["model", "kind"], registry=REGISTRY
)
MODEL_COST_USD = Counter(
    "usa_model_cost_usd_total", "Cost booked in the ledger.", ["model"], registry=REGISTRY
)
MODEL_FAILURES = Counter(
    "usa_model_failures_total",
    "Failed model calls by what to do: wait, change the job, or change the configuration.",
    ["kind"],
    registry=REGISTRY,
)
CALLS_REPEATED = Counter(
    "usa_model_calls_repeated_total",
    "Calls paid again, because what an earlier attempt paid for was lost with it.",
    registry=REGISTRY,
)
TOKENS_WASTED = Counter(
    "usa_model_tokens_wasted_total",
    "Tokens booked for calls of which nobody has anything: abandoned, aborted, failed or fenced.",
    ["kind", "why"],
    registry=REGISTRY,
)

PATCHES_REJECTED = Counter(
    "usa_patches_rejected_total",
    "Patches that the model asked for and that were dropped, kept proposals or not.",
    ["iteration", "reason"],
    registry=REGISTRY,
)
UPSTREAM_WAITING = Gauge(
    "usa_upstream_waiting", "Calls of this worker that wait for their turn.", registry=REGISTRY
)
UPSTREAM_WAIT_SECONDS = Histogram(
    "usa_upstream_wait_seconds", "How long calls waited for the model's rate limits.", ["model"],
    buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip
UPSTREAM_LIMIT = Gauge(
    "usa_upstream_limit", "Limit per minute that this worker last saw, for all of them; 0 is none.",
    ["model", "kind"], registry=REGISTRY,
)  # fmt: skip
UPSTREAM_USED = Counter(
    "usa_upstream_used_total", "What this worker's calls took of the model's rate limits.",
    ["model", "kind"], registry=REGISTRY,
)  # fmt: skip
UPSTREAM_PAUSES = Counter(
    "usa_upstream_pauses_total", "Answers that made all workers pause: too many, or overloaded.",
    ["model"], registry=REGISTRY,
)  # fmt: skip
UPSTREAM_TURNS_ALONE = Counter(
    "usa_upstream_turns_alone_total",
    "Calls let through without Redis, by this worker's share of the limits.",
    ["model"],
    registry=REGISTRY,
)
UPSTREAM_CORRECTIONS_LOST = Counter(
    "usa_upstream_corrections_lost_total", "Writes to the shared budget that Redis did not take.",
    ["what"], registry=REGISTRY,
)  # fmt: skip

LEASE_RENEWALS = Counter(
    "usa_lease_renewals_total", "Lease renewals by server and result.", ["server", "result"],
    registry=REGISTRY,
)  # fmt: skip
LEASE_AGE_SECONDS = Gauge(
    "usa_lease_renewal_age_seconds", "Time since the last renewal that worked.", registry=REGISTRY
)

EVENTS_APPENDED = Counter(
    "usa_events_appended_total", "Events by what their append answered.", ["verdict"],
    registry=REGISTRY,
)  # fmt: skip
EVENTS_DROPPED = Counter(
    "usa_events_dropped_total", "Progress events dropped while Redis was away.", registry=REGISTRY
)
EVENT_APPEND_SECONDS = Histogram(
    "usa_event_append_seconds",
    "From a worker's sending of events to Redis' answer, outages included.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
EVENT_DELIVERY_SECONDS = Histogram(
    "usa_event_delivery_seconds",
    "From a replica's hearing of published events to their last byte handed to a client.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
EVENTS_DELIVERED = Counter(
    "usa_events_delivered_total",
    "Events for clients: as they were published, or read because something was missed or is old.",
    ["source"],
    registry=REGISTRY,
)
SSE_CLIENTS = Gauge("usa_sse_clients", "Open event streams.", registry=REGISTRY)
SSE_RESYNCS = Counter("usa_sse_resyncs_total", "Snapshots that replaced lost history.",
                      registry=REGISTRY)  # fmt: skip
SSE_DROPPED = Counter("usa_sse_dropped_total", "Clients dropped because they did not read.",
                      registry=REGISTRY)  # fmt: skip

HTTP_SECONDS = Histogram(
    "usa_http_request_seconds", "HTTP requests by route template.",
    ["method", "route", "status"], buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip
REFUSALS = Counter(
    "usa_http_refusals_total", "Requests refused for who sent them, or how many they are.",
    ["code"], registry=REGISTRY,
)  # fmt: skip

REQUESTS_LIMITED = Counter(
    "usa_requests_limited_total",
    "Requests refused because their caller submits, reads, streams or waits too much.",
    ["what"],
    registry=REGISTRY,
)
RATES_JUDGED_ALONE = Counter(
    "usa_rate_limit_local_total",
    "Requests whose rate this process judged alone, because Redis did not answer.",
    registry=REGISTRY,
)

RELAYED = Counter("usa_relay_entries_total", "Entries added by the relay.", registry=REGISTRY)
RECONCILED = Counter(
    "usa_reconcile_repairs_total", "Repairs made by the reconciler.", ["repair"],
    registry=REGISTRY,
)  # fmt: skip
GROUPS_CREATED = Counter(
    "usa_job_groups_created_total",
    "Consumer groups made because they were missing: at the first start, and after a loss.",
    ["stream"],
    registry=REGISTRY,
)
PRUNED = Counter(
    "usa_pruned_total", "Things deleted because nobody needs them any more.", ["what"],
    registry=REGISTRY,
)  # fmt: skip
LOOP_FAILURES = Counter(
    "usa_loop_failures_total", "Failed rounds of background loops.", ["loop"], registry=REGISTRY
)
LOST_MARKS = Counter(
    "usa_lazy_writes_lost_total", "Lazy writes that failed and are left to maintenance.",
    ["write"], registry=REGISTRY,
)  # fmt: skip
SPANS_LOST = Counter(
    "usa_trace_spans_lost_total", "Spans that no collector took, or that waited for one too long.",
    registry=REGISTRY,
)  # fmt: skip
RETRIES = Counter(
    "usa_retries_total", "Calls repeated because their server did not answer.", ["what"],
    registry=REGISTRY,
)  # fmt: skip

# What is there from the start, at 0, shows its first increase as one.
for _kind in FailureKind:
    MODEL_FAILURES.labels(kind=_kind.value)
for _status in ("completed", "failed", "cancelled"):
    JOBS_ENDED.labels(status=_status)
for _write in ("open_call", "checkpoint", "events", "ending"):
    WRITES_FENCED.labels(write=_write)
