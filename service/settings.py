"""Every setting, its default, its limits, and the relations between them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=86_400 * 400)]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _either(name: str, bare: str) -> AliasChoices:
    return AliasChoices(f"USA_{name}", bare)


class ClientSettings(BaseSettings):
    """What a command that talks to a running service needs."""

    model_config = SettingsConfigDict(env_prefix="USA_", extra="ignore", populate_by_name=True)

    home: Path = Field(Path(".usa"), description="Folder of the embedded servers and of the key.")
    api_url: str = Field("http://127.0.0.1:3000", description="The service that clients talk to.")
    api_key: SecretStr | None = Field(
        None, description="The key that clients send; else the file `key` in USA_HOME."
    )


class Settings(BaseSettings):
    """How the service runs; durations in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="USA_", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    redis_url: SecretStr | None = Field(
        None,
        validation_alias=_either("REDIS_URL", "REDIS_URL"),
        description="Redis or Valkey; without it `usa up` and `usa demo` start their own.",
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=_either("DATABASE_URL", "DATABASE_URL"),
        description="Postgres; without it `usa up` and `usa demo` start their own.",
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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        validation_alias=_either("LOG_LEVEL", "LOG_LEVEL"),
        description="Least severity that is logged.",
    )
    log_format: Literal["json", "text"] = Field("json", description="How records are written.")

    model: Literal["anthropic", "offline"] = Field(
        "anthropic", description="Who writes: Claude, or the offline rules that call nobody."
    )
    anthropic_api_key: SecretStr | None = Field(
        None,
        validation_alias=_either("ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"),
        description="Key of the Claude API; workers need it, the API does not.",
    )
    anthropic_base_url: str = Field(
        "https://api.anthropic.com",
        validation_alias=_either("ANTHROPIC_BASE_URL", "ANTHROPIC_BASE_URL"),
        description="Where the Claude API is.",
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
        10, description="Undelivered entries per user, the rest wait their turn; 0 is no limit."
    )
    postgres_pool: Annotated[int, Field(ge=2, le=1000)] = Field(
        10, description="Postgres connections per process, the lease thread's two not included."
    )
    reconcile_interval: Seconds = Field(3.0, description="How often lost things are looked for.")

    @model_validator(mode="before")
    @classmethod
    def _split_origins(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("cors_origins"), str):
            origins = [part.strip() for part in values["cors_origins"].split(",")]
            return {**values, "cors_origins": tuple(part for part in origins if part)}
        return values

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        if self.renew_every >= self.lease / 3:
            raise ValueError(
                f"USA_RENEW_EVERY ({self.renew_every:g}) must be less than a third of "
                f"USA_LEASE ({self.lease:g}): two lost renewals must not lose a job"
            )
        if self.block >= self.socket_timeout:
            raise ValueError(
                f"USA_BLOCK ({self.block:g}) must be less than "
                f"USA_SOCKET_TIMEOUT ({self.socket_timeout:g})"
            )
        return self
