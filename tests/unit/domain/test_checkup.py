"""The facts about a server are judged by what the service needs."""

from dataclasses import replace

import pytest

from service.domain.checkup import Finding, Health, RedisFacts, judge_redis, judge_schema

GOOD = RedisFacts(
    product="Valkey 9.1.2",
    version="7.2.4",
    eviction="noeviction",
    is_append_only=True,
    missing_groups=(),
)


def worst(facts: RedisFacts) -> Finding:
    [finding] = [each for each in judge_redis(facts) if each.health is not Health.OK]
    return finding


def test_a_redis_that_has_all_that_is_needed_is_fine() -> None:
    findings = judge_redis(GOOD)
    assert len(findings) == 4
    assert {each.health for each in findings} == {Health.OK}
    assert {each.advice for each in findings} == {None}


@pytest.mark.parametrize("version", ["6.2.0", "6.2", "7.0.15", "8.10.1", "10.0.0"])
def test_a_redis_from_6_2_on_will_do(version: str) -> None:
    assert judge_redis(replace(GOOD, version=version))[0].health is Health.OK


def test_a_cluster_must_be_able_to_publish_within_a_shard() -> None:
    cluster = replace(GOOD, version="7.0.15", shards=3)
    assert "cluster of 3 shards" in judge_redis(cluster)[0].message
    finding = worst(replace(cluster, version="6.2.14"))
    assert (finding.check, finding.health) == ("redis", Health.FAILED)
    assert "7.0" in (finding.advice or "")


@pytest.mark.parametrize("version", ["6.0.16", "5.0", "2.8.24", ""])
def test_an_older_redis_will_not(version: str) -> None:
    finding = worst(replace(GOOD, version=version))
    assert (finding.check, finding.health) == ("redis", Health.FAILED)
    assert "6.2" in (finding.advice or "")


@pytest.mark.parametrize(
    ("facts", "check", "said"),
    [
        (replace(GOOD, eviction="allkeys-lru"), "redis memory", "allkeys-lru"),
        (replace(GOOD, is_append_only=False), "redis persistence", "appendonly is no"),
        (replace(GOOD, missing_groups=("{usa}:jobs",)), "job streams", "{usa}:jobs"),
    ],
)
def test_what_only_makes_trouble_later_is_a_warning_with_advice(
    facts: RedisFacts, check: str, said: str
) -> None:
    finding = worst(facts)
    assert (finding.check, finding.health) == (check, Health.WARNING)
    assert said in finding.message
    assert finding.advice


def test_a_schema_without_all_migrations_has_failed() -> None:
    assert judge_schema([]).health is Health.OK
    finding = judge_schema(["0002_more", "0003_most"])
    assert finding.as_json() == {
        "check": "schema",
        "status": "failed",
        "message": "migrations are missing: 0002_more, 0003_most",
        "advice": "run `usa migrate`",
    }
