"""Settings: what is external, what is refused and in which words, which value wins, and what time it is."""

import time
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import clock
from foundation.errors import AssayError
from foundation.settings import Settings, load

LAKE = {
    "SPARK_REMOTE": "sc://spark.example:15002",
    "TRINO_HOST": "trino.example",
    "CLICKHOUSE_HOST": "clickhouse.example",
    "ICEBERG_CATALOG_URI": "http://catalog.example/api",
    "ASSAY_WAREHOUSE_URI": "s3://lake/warehouse",
}
PRODUCTION = {
    **LAKE,
    "CLICKHOUSE_PASSWORD": "s3cr3t",
    "MLFLOW_TRACKING_URI": "http://mlflow.example",
    "ASSAY_LEDGER_URL": "postgresql://ledger.example/ledger",
    "ASSAY_FEAST_REGISTRY": "postgresql://feast.example/registry",
    "ASSAY_FEAST_ONLINE": "redis.example:6379",
}
PARTS = [set(part) for size in range(1, len(LAKE)) for part in combinations(LAKE, size)]


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def keep(variables: dict[str, str]) -> None:
    """Writes the `settings.env` of the home."""
    home = load().home
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def test_with_nothing_set_everything_is_embedded_and_local(settings: Settings, tmp_path: Path) -> None:
    assert settings.environment == "local"
    assert settings.home == tmp_path / "home"
    external = ["spark", "trino", "clickhouse", "catalog", "storage", "mlflow", "ledger", "feast-registry"]
    assert not any(settings.is_external(part) for part in external)
    assert settings.warehouse_uri.startswith("file://")


def test_production_names_every_missing_address_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_ENV", "production")
    with pytest.raises(AssayError) as refused:
        load()
    assert [name for name in PRODUCTION if name not in refused.value.what] == []


@pytest.mark.parametrize("forgotten", PRODUCTION)
def test_production_names_the_one_address_that_was_forgotten(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    set_all(monkeypatch, {"ASSAY_ENV": "production", **{k: v for k, v in PRODUCTION.items() if k != forgotten}})
    with pytest.raises(AssayError) as refused:
        load()
    assert [name for name in PRODUCTION if name in refused.value.what] == [forgotten]


def test_production_with_every_address_is_entirely_external(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"ASSAY_ENV": "production", **PRODUCTION})
    settings = load()
    assert settings.spark_remote == PRODUCTION["SPARK_REMOTE"]
    assert settings.trino_address[0] == PRODUCTION["TRINO_HOST"]
    assert settings.clickhouse_address[0] == PRODUCTION["CLICKHOUSE_HOST"]
    assert settings.clickhouse_password == PRODUCTION["CLICKHOUSE_PASSWORD"]
    assert settings.mlflow_tracking_uri == PRODUCTION["MLFLOW_TRACKING_URI"]
    assert settings.warehouse_uri == PRODUCTION["ASSAY_WAREHOUSE_URI"]
    assert settings.ledger_url == PRODUCTION["ASSAY_LEDGER_URL"]
    assert settings.feast_registry == PRODUCTION["ASSAY_FEAST_REGISTRY"]
    assert settings.feast_online == PRODUCTION["ASSAY_FEAST_ONLINE"]
    assert settings.iceberg_catalog_properties()["uri"] == PRODUCTION["ICEBERG_CATALOG_URI"]


def test_an_empty_address_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"ASSAY_ENV": "production", **PRODUCTION, "TRINO_HOST": ""})
    with pytest.raises(AssayError, match="TRINO_HOST"):
        load()


def test_addresses_of_this_machine_do_not_make_a_production(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "spark,trino,clickhouse,clickhouse-password,catalog,storage,mlflow,ledger,feast-registry,feast-online"
    set_all(monkeypatch, {"ASSAY_ENV": "production", **PRODUCTION, "ASSAY_EMBEDDED": ours})
    with pytest.raises(AssayError) as refused:
        load()
    assert [name for name in PRODUCTION if name not in refused.value.what] == []


@pytest.mark.parametrize("outside", PARTS, ids=lambda part: "+".join(sorted(part)))
def test_a_lake_half_outside_is_refused_naming_both_sides(monkeypatch: pytest.MonkeyPatch, outside: set[str]) -> None:
    set_all(monkeypatch, {name: LAKE[name] for name in outside})
    with pytest.raises(AssayError) as refused:
        load()
    named_outside, _, named_inside = refused.value.what.partition("; not set: ")
    assert {name for name in LAKE if name in named_outside} == outside
    assert {name for name in LAKE if name in named_inside} == set(LAKE) - outside


def test_a_whole_lake_outside_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, LAKE)
    assert load().spark_remote == LAKE["SPARK_REMOTE"]


def test_an_mlflow_elsewhere_goes_with_a_lake_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    settings = load()
    assert settings.mlflow_tracking_uri == "http://mlflow.example"
    assert not settings.is_external("spark")


def test_exported_addresses_are_not_external(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(
        monkeypatch, {"TRINO_HOST": "127.0.0.1", "SPARK_REMOTE": "sc://127.0.0.1:1", "ASSAY_EMBEDDED": "trino,spark"}
    )
    settings = load()
    assert not settings.is_external("trino")
    assert not settings.is_external("spark")


def test_an_address_that_embedded_does_not_name_is_external(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {**LAKE, "ASSAY_EMBEDDED": "mlflow"})
    assert load().is_external("trino")


def test_the_home_keeps_settings() -> None:
    keep({"ASSAY_NOW": "2013-02-01T12:00:00", "MLFLOW_TRACKING_URI": "http://kept.example"})
    settings = load()
    assert settings.now == datetime(2013, 2, 1, 12)
    assert settings.mlflow_tracking_uri == "http://kept.example"


def test_the_environment_wins_over_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    keep({"ASSAY_NOW": "2013-02-01T12:00:00"})
    monkeypatch.setenv("ASSAY_NOW", "2013-03-01T12:00:00")
    assert load().now == datetime(2013, 3, 1, 12)


def test_two_homes_keep_their_own_settings(tmp_path: Path) -> None:
    keep({"ASSAY_NOW": "2013-02-01T12:00:00"})
    other = load(tmp_path / "other")
    assert other.now is None
    assert other.ledger_url != load().ledger_url


@pytest.mark.parametrize(
    ("name", "value"), [("ASSAY_NOW", "yesterday-ish"), ("TRINO_PORT", "http"), ("CLICKHOUSE_PORT", "8123x")]
)
def test_a_value_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(AssayError) as refused:
        load()
    assert name in refused.value.what
    assert value in refused.value.what
    assert name in refused.value.next_action


def test_an_environment_without_a_letter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_ENV", "--")
    with pytest.raises(AssayError, match="ASSAY_ENV"):
        load()


@pytest.mark.parametrize("address", ["spark_remote", "trino_address", "clickhouse_password", "mlflow_tracking_uri"])
def test_before_the_first_start_there_is_no_address_but_a_next_step(settings: Settings, address: str) -> None:
    with pytest.raises(AssayError) as refused:
        getattr(settings, address)
    assert "./assay up" in refused.value.next_action


def test_the_password_is_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION)
    assert PRODUCTION["CLICKHOUSE_PASSWORD"] not in repr(load())


def test_a_clock_without_a_zone_is_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_NOW", "2013-02-01T06:00:00")
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("TZ", "XYZ+9")
        time.tzset()
        assert clock.now(load()).isoformat() == "2013-02-01T06:00:00+00:00"
    time.tzset()


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_clock_with_a_zone_is_the_same_moment_in_utc(moment: datetime, zone: timezone) -> None:
    zoned = moment.replace(tzinfo=zone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_NOW", zoned.isoformat())
        now = clock.now(load())
    assert now == zoned
    assert now.utcoffset() == timedelta(0)


def test_without_a_setting_the_clock_is_the_real_one(settings: Settings) -> None:
    assert abs(clock.now(settings) - datetime.now(UTC)) < timedelta(seconds=5)
