"""Settings: names, limits, relations, and secrets that stay secret."""

import math
import re
from collections.abc import Mapping

import pytest
from pydantic import SecretStr, ValidationError

from service.relations import RELATIONS
from service.settings import ClientSettings, Settings

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any setting."""
    for kind in (Settings, ClientSettings):
        for name in kind.model_fields:
            monkeypatch.delenv(f"USA_{name.upper()}", raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def read(environment: pytest.MonkeyPatch, variables: Mapping[str, str]) -> Settings:
    for name, value in variables.items():
        environment.setenv(name, value)
    return Settings()


def test_without_any_variable_the_defaults_hold_together() -> None:
    settings = Settings()
    assert (settings.redis_url, settings.database_url) == (None, None)
    assert (settings.port, settings.metrics_port, settings.concurrency) == (3000, 9100, 3)
    assert (settings.lease, settings.renew_every, settings.shutdown_grace) == (15, 4, 60)


@pytest.mark.parametrize(
    ("bare", "field", "value", "other"),
    [
        ("REDIS_URL", "redis_url", "redis://a/0", "redis://b/0"),
        ("DATABASE_URL", "database_url", "postgresql://a/x", "postgresql://b/x"),
        ("ANTHROPIC_API_KEY", "anthropic_api_key", "key-a", "key-b"),
        ("PORT", "port", "4000", "5000"),
        ("LOG_LEVEL", "log_level", "DEBUG", "ERROR"),
    ],
)
def test_the_names_that_platforms_use_work_and_our_own_win(
    environment: pytest.MonkeyPatch, bare: str, field: str, value: str, other: str
) -> None:
    def shown(settings: Settings) -> str:
        found = getattr(settings, field)
        return found.get_secret_value() if isinstance(found, SecretStr) else str(found)

    assert shown(read(environment, {bare: value})) == value
    assert shown(read(environment, {f"USA_{bare}": other})) == other


def test_an_empty_variable_is_as_good_as_none(environment: pytest.MonkeyPatch) -> None:
    names = ("USA_REDIS_URL", "ANTHROPIC_API_KEY", "USA_PORT", "USA_LEASE", "USA_CORS_ORIGINS")
    settings = read(environment, dict.fromkeys(names, ""))
    assert settings == Settings.model_construct()
    assert read(environment, {"PORT": "4000"}).port == 4000


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_a_log_level_may_be_written_in_any_case(
    environment: pytest.MonkeyPatch, level: str
) -> None:
    assert read(environment, {"LOG_LEVEL": level}).log_level == "DEBUG"


def test_an_issuer_needs_an_audience_and_an_address_that_nobody_listens_to(
    environment: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValidationError, match="USA_OIDC_ISSUER needs USA_OIDC_AUDIENCE"):
        read(environment, {"USA_OIDC_ISSUER": "https://issuer.example/realm"})
    environment.setenv("USA_OIDC_AUDIENCE", "stories")
    for taken in ("https://issuer.example/realm", "http://127.0.0.1:8080", "http://localhost"):
        assert read(environment, {"USA_OIDC_ISSUER": taken}).oidc_issuer == taken
    for bad in ("http://issuer.example", "https://i.example/?a=b", "https://i.example/#a", "x"):
        with pytest.raises(ValidationError, match="oidc_issuer"):
            read(environment, {"USA_OIDC_ISSUER": bad})


@pytest.mark.parametrize("algorithms", ["HS256", "none", "RS256,HS512", "rs256", ","])
def test_a_token_may_never_be_signed_with_what_checks_it(
    environment: pytest.MonkeyPatch, algorithms: str
) -> None:
    assert read(environment, {}).oidc_algorithms == ("RS256", "ES256")
    given = {"USA_OIDC_ALGORITHMS": "EdDSA, PS512"}
    assert read(environment, given).oidc_algorithms == ("EdDSA", "PS512")
    with pytest.raises(ValidationError, match="oidc_algorithms"):
        read(environment, {"USA_OIDC_ALGORITHMS": algorithms})


def test_origins_are_separated_by_commas(environment: pytest.MonkeyPatch) -> None:
    given = {"USA_CORS_ORIGINS": " https://a.example ,https://b.example,, "}
    assert read(environment, given).cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"USA_RENEW_EVERY": "5"}, r"USA_RENEW_EVERY \(5\) must be less than a third of USA_LEASE"),
        ({"USA_LEASE": "12"}, r"USA_RENEW_EVERY \(4\) must be less than .* USA_LEASE \(12\)"),
        ({"USA_BLOCK": "3"}, r"USA_BLOCK \(3\) must be at least 0.5 s less than USA_SOCKET_TIM"),
        ({"USA_SOCKET_TIMEOUT": "1.4"}, r"USA_BLOCK \(1\) .* USA_SOCKET_TIMEOUT \(1.4\)"),
        ({"USA_SHUTDOWN_GRACE": "1"}, r"USA_BLOCK \(1\) must be less .* USA_SHUTDOWN_GRACE \(1\)"),
        ({"USA_RECLAIM_INTERVAL": "15"}, r"USA_RECLAIM_INTERVAL \(15\) .* USA_LEASE \(15\)"),
        ({"USA_LEASE": "3600"}, r"USA_LEASE \(3600\) must be less .* USA_JOB_DEADLINE \(3600\)"),
        ({"USA_POLL_INTERVAL": "3601"}, r"USA_POLL_INTERVAL \(3601\) .* USA_JOB_DEADLINE \(3600\)"),
        (
            {"USA_RECONCILE_INTERVAL": "90", "USA_JOB_DEADLINE": "60"},
            r"USA_RECONCILE_INTERVAL \(90\) must not be more than USA_JOB_DEADLINE \(60\)",
        ),
        (
            {"USA_EVENT_RETENTION": "86401", "USA_RETENTION_DAYS": "1"},
            r"USA_EVENT_RETENTION \(86401\) .* USA_RETENTION_DAYS \(1\)",
        ),
        (
            {"USA_RETENTION_DAYS": "401"},
            r"USA_RETENTION_DAYS \(401\) must not be more than USA_LEDGER_RETENTION_DAYS \(400\)",
        ),
        (
            {"USA_CONCURRENCY": "401", "USA_POSTGRES_POOL": "4"},
            r"USA_CONCURRENCY \(401\) must not be more than 100 times USA_POSTGRES_POOL \(4\)",
        ),
    ],
)
def test_relations_that_would_break_the_protocol_are_refused_by_name(
    environment: pytest.MonkeyPatch, variables: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        read(environment, variables)


@pytest.mark.parametrize(
    "variables",
    [
        {"USA_LEASE": "1.5", "USA_RENEW_EVERY": "0.4"},
        {"USA_BLOCK": "2.5"},
        {"USA_LEASE": "3599"},
        {"USA_RECLAIM_INTERVAL": "14.9"},
        {"USA_POLL_INTERVAL": "3600", "USA_RECONCILE_INTERVAL": "3600"},
        {"USA_EVENT_RETENTION": "86400", "USA_RETENTION_DAYS": "1"},
        {"USA_RETENTION_DAYS": "400"},
        {"USA_CONCURRENCY": "400", "USA_POSTGRES_POOL": "4"},
        {"USA_SHUTDOWN_GRACE": "1.5"},
    ],
)
def test_relations_that_hold_are_accepted(
    environment: pytest.MonkeyPatch, variables: Mapping[str, str]
) -> None:
    read(environment, variables)


def test_every_relation_says_why_and_is_between_two_settings() -> None:
    for relation in RELATIONS:
        assert {relation.bounded, relation.bound} <= Settings.model_fields.keys()
        assert re.fullmatch(r"USA_\w+ must .* USA_\w+: [a-z].*[^.]", str(relation))


@pytest.mark.parametrize("garbage", ["0", "-1", "nan", "inf", "-inf", "1e300", "soon", "1s"])
@pytest.mark.parametrize(
    "name",
    [
        name.upper()
        for name, field in Settings.model_fields.items()
        if field.annotation is float
        and name not in {"offline_pace", "oidc_leeway", "drain_delay", "trace_ratio"}
    ],
)
def test_a_duration_is_a_positive_finite_number_of_seconds(
    environment: pytest.MonkeyPatch, name: str, garbage: str
) -> None:
    with pytest.raises(ValidationError, match=name.lower()):
        read(environment, {f"USA_{name}": garbage})


@pytest.mark.parametrize("port", ["-1", "65536", "http", "3000.5", "tcp://10.0.0.1:3000"])
def test_a_port_that_is_none_is_refused(environment: pytest.MonkeyPatch, port: str) -> None:
    with pytest.raises(ValidationError, match="PORT"):
        read(environment, {"PORT": port})


@pytest.mark.parametrize(
    ("name", "address", "message"),
    [
        ("REDIS_URL", "localhost:6379", "it must begin with redis://"),
        ("REDIS_URL", "http://localhost", "it must begin with redis://"),
        ("REDIS_URL", "redis+sentinel://a,b", "/service or /service/database"),
        ("DATABASE_URL", "postgresql+asyncpg://a/x", "it must begin with postgresql://"),
        ("DATABASE_URL", "mysql://a/x", "it must begin with postgresql://"),
    ],
)
def test_an_address_of_another_kind_is_refused_at_start(
    environment: pytest.MonkeyPatch, name: str, address: str, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        read(environment, {name: address})


def test_no_secret_shows_in_any_form_of_the_settings(environment: pytest.MonkeyPatch) -> None:
    settings = read(
        environment,
        {
            "REDIS_URL": f"redis://:{SECRET}@redis/0",
            "DATABASE_URL": f"postgresql://usa:{SECRET}@postgres/usa",
            "ANTHROPIC_API_KEY": SECRET,
        },
    )
    environment.setenv("USA_API_KEY", SECRET)
    for shown in (
        repr(settings),
        str(settings),
        repr(settings.model_dump()),
        settings.model_dump_json(),
    ):
        assert SECRET not in shown
        assert "**" in shown
    assert SECRET not in repr(ClientSettings())


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "USA_API_KEY"])
def test_a_key_from_a_file_is_taken_and_what_no_header_can_hold_is_refused(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    def key() -> str:
        read_one = Settings().anthropic_api_key or ClientSettings().api_key
        assert read_one is not None
        return read_one.get_secret_value()

    environment.setenv(name, f"{SECRET}\n")
    assert key() == SECRET
    for wrong in ("two\nlines", "sch\u00f6n", " "):
        environment.setenv(name, wrong)
        with pytest.raises(ValidationError, match="characters that no key has"):
            key()


@pytest.mark.parametrize(
    "wrong",
    [
        {"USA_LEASE": "1"},
        {"PORT": SECRET},
        {"REDIS_URL": f"http://:{SECRET}@redis"},
        # Python itself refuses a sign that stands for "a/c", and quotes what is around it.
        {"REDIS_URL": f"redis://:{SECRET}\u2100@redis"},
        {"DATABASE_URL": f"postgresql://usa:{SECRET}\u2100@postgres/usa"},
    ],
)
def test_no_error_shows_what_was_given(
    environment: pytest.MonkeyPatch, wrong: Mapping[str, str]
) -> None:
    secrets = {
        "REDIS_URL": f"redis://:{SECRET}@redis/0",
        "DATABASE_URL": f"postgresql://usa:{SECRET}@postgres/usa",
        "ANTHROPIC_API_KEY": SECRET,
    }
    with pytest.raises(ValidationError) as refusal:
        read(environment, {**secrets, **wrong})
    for shown in (repr(refusal.value), str(refusal.value)):
        assert SECRET not in shown
    assert SECRET not in repr(refusal.value.errors(include_input=False))


def test_every_setting_is_described_and_none_is_unbounded() -> None:
    for kind in (Settings, ClientSettings):
        for name, field in kind.model_fields.items():
            assert field.description, name
    for name, field in Settings.model_fields.items():
        if field.annotation in {int, float}:
            schema = Settings.model_json_schema(by_alias=False)["properties"][name]
            assert math.isfinite(schema["maximum"]), name
