"""Every setting, its default, its limits, and the relations between them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.domain.api_keys import Scope
from service.relations import RELATIONS
from service.setting_kinds import (
    Algorithm,
    ClaimName,
    Days,
    HttpAddress,
    IssuerAddress,
    Key,
    Limit,
    LogLevel,
    Port,
    PostgresAddress,
    RedisAddress,
    Seconds,
)

_DAY = 86_400


def _either(name: str, bare: str) -> AliasChoices:
    return AliasChoices(f"USA_{name}", bare)


class ClientSettings(BaseSettings):
    """What a command that talks to a running service needs."""

    model_config = SettingsConfigDict(
        env_prefix="USA_",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(Path(".usa"), description="Folder of the embedded servers and of the key.")
    api_url: HttpAddress = Field(
        "http://127.0.0.1:3000", description="The service that clients talk to."
    )
    api_key: Key | None = Field(
        None, description="The key that clients send; else the file `key` in USA_HOME."
    )


class Settings(BaseSettings):
    """How the service runs; durations in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="USA_",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    redis_url: RedisAddress | None = Field(
        None,
        validation_alias=_either("REDIS_URL", "REDIS_URL"),
        description="Redis or Valkey, also by Sentinels or as a cluster; without it `usa up` "
        "starts its own.",
    )
    database_url: PostgresAddress | None = Field(
        None,
        validation_alias=_either("DATABASE_URL", "DATABASE_URL"),
        description="Postgres; without it `usa up` starts its own.",
    )
    api_database_url: PostgresAddress | None = Field(
        None,
        description="The same Postgres, as a role that sees one owner at a time, for the requests "
        "of an API; without it they use USA_DATABASE_URL.",
    )
    home: Path = Field(Path(".usa"), description="Folder of the embedded servers and of the key.")

    host: str = Field("0.0.0.0", description="Address `usa api` binds; `usa up` binds 127.0.0.1.")  # noqa: S104 - a pod is reached from outside
    port: Port = Field(
        3000, validation_alias=_either("PORT", "PORT"), description="Port of the API."
    )
    metrics_port: Port = Field(
        9100, description="Port of /metrics, /healthz and /readyz; 0 takes any free one."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that browsers may call the API from, separated by commas."
    )
    oidc_issuer: IssuerAddress | None = Field(
        None, description="OpenID Connect issuer whose JWTs are taken; without it only API keys."
    )
    oidc_audience: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        None, description="What a JWT must be for: its `aud`; needed with an issuer."
    )
    oidc_algorithms: Annotated[tuple[Algorithm, ...], NoDecode, Field(min_length=1)] = Field(
        ("RS256", "ES256"),
        description="How a JWT may be signed, separated by commas: RS, PS, ES or EdDSA, never HS.",
    )
    oidc_leeway: Annotated[float, Field(ge=0, le=60)] = Field(
        30.0, description="What the clocks of the issuer and of the API may differ by."
    )
    oidc_user_claim: ClaimName = Field("sub", description="Claim of a JWT that is the user.")
    oidc_tenant_claim: ClaimName = Field(
        "tenant", description="Claim of a JWT that is the tenant; a token without it is refused."
    )
    oidc_scopes_claim: ClaimName = Field(
        "scope", description="Claim of a JWT with its scopes: a list, or words in one string."
    )
    oidc_scopes: Annotated[tuple[Scope, ...], NoDecode] = Field(
        (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.USAGE_READ),
        description="Scopes that a JWT may have, separated by commas; it gets no others.",
    )
    oidc_tier_claim: ClaimName = Field(
        "tier", description="Claim of a JWT that is the tier: free, pro or enterprise; else free."
    )

    log_level: LogLevel = Field(
        "INFO",
        validation_alias=_either("LOG_LEVEL", "LOG_LEVEL"),
        description="Least severity that is logged.",
    )
    log_format: Literal["json", "text"] = Field("json", description="How records are written.")
    tracing: bool = Field(
        False,
        description="Export traces to where OTEL_EXPORTER_OTLP_* say; needs the extra `otel`.",
    )
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="Part of the traces that is exported; callers decide for those they began.",
    )

    model: Literal["anthropic", "offline"] = Field(
        "anthropic", description="Who writes: Claude, or the offline rules that call nobody."
    )
    anthropic_api_key: Key | None = Field(
        None,
        validation_alias=_either("ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"),
        description="Key of the Claude API; workers need it, the API does not.",
    )
    anthropic_base_url: HttpAddress = Field(
        "https://api.anthropic.com",
        validation_alias=_either("ANTHROPIC_BASE_URL", "ANTHROPIC_BASE_URL"),
        description="Where the Claude API is.",
    )
    model_timeout: Seconds = Field(600.0, description="How long one call of the model may take.")
    model_idle_timeout: Seconds = Field(
        60.0, description="How long the model may send nothing before its call counts as failed."
    )
    upstream_requests_per_minute: Limit = Field(
        None,
        description="Most calls per minute of one model, by all workers; also what the API says.",
    )
    upstream_input_tokens_per_minute: Limit = Field(
        None,
        description="Most uncached input tokens per minute of one model; also what the API says.",
    )
    upstream_output_tokens_per_minute: Limit = Field(
        None, description="Most output tokens per minute of one model; also what the API says."
    )
    upstream_max_wait: Seconds = Field(
        300.0, description="How long one call may wait for these limits before its attempt fails."
    )
    offline_pace: Annotated[float, Field(ge=0, le=100)] = Field(
        1.0, description="How slowly the offline model writes; 0 is at once."
    )
    test_agents: bool = Field(
        False, description="Also offer the agents `noop` and `sleep`, for tests and benches."
    )

    concurrency: Annotated[int, Field(ge=1, le=1000)] = Field(
        3, description="Jobs that one worker runs at the same time."
    )
    poll_interval: Seconds = Field(1.0, description="How often queued jobs are looked for.")
    reclaim_interval: Seconds = Field(
        1.0, description="How often entries of silent workers are looked for."
    )
    lease: Seconds = Field(15.0, description="How long a silent worker keeps its jobs.")
    renew_every: Seconds = Field(4.0, description="How often leases are renewed.")
    block: Seconds = Field(1.0, description="How long one wait for new entries lasts.")
    socket_timeout: Seconds = Field(3.0, description="How long an answer of Redis may take.")
    shutdown_grace: Seconds = Field(
        60.0,
        description="How long running jobs may go on after SIGTERM before they are handed back.",
    )
    drain_delay: Annotated[float, Field(ge=0, le=600)] = Field(
        0.0,
        description="How long an API still answers after SIGTERM, not ready, closing connections.",
    )
    max_errors: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Attempts that may end in a retryable error."
    )
    max_crashes: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Workers that a job may lose since its last checkpoint."
    )
    job_deadline: Annotated[float, Field(ge=10, le=86_400 * 7)] = Field(
        3600.0, description="How long after its submission a job fails for good."
    )
    event_retention: Seconds = Field(3600.0, description="How long events outlive their job.")
    user_in_stream: Annotated[int, Field(ge=0, le=100_000)] = Field(
        8, description="Undelivered entries per user, the rest wait their turn; 0 is no limit."
    )
    max_queued: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        10_000, description="Queued jobs of all users, above which none is accepted; 0 is no limit."
    )
    postgres_pool: Annotated[int, Field(ge=4, le=1000)] = Field(
        10, description="Postgres connections per process; an API has as many again for requests."
    )
    reconcile_interval: Seconds = Field(3.0, description="How often lost things are looked for.")
    prune_interval: Annotated[float, Field(gt=0, le=_DAY)] = Field(
        60.0, description="How often what nobody needs any more is deleted."
    )
    retention_days: Days = Field(
        30, description="Days that stories and results are kept after their job's end."
    )
    ledger_retention_days: Days = Field(
        400, description="Days that the ledger of model calls and the daily sums are kept."
    )

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        lists = {
            name: tuple(part.strip() for part in values[name].split(",") if part.strip())
            for name in ("cors_origins", "oidc_algorithms", "oidc_scopes")
            if isinstance(values.get(name), str)
        }
        return {**values, **lists}

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        for relation in RELATIONS:
            relation.check(self)
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise ValueError(
                "USA_OIDC_ISSUER needs USA_OIDC_AUDIENCE: "
                "a token that was made for another service must not be taken"
            )
        return self
