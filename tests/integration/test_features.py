"""Features over a small lake of their own: real flights and weather, real Feast, no service but a Redis where there is one.

Belongs here: claims about feature_repo/, ml/features.py and their assets. Does not belong here: models
(test_models.py), or whether Spark and Trino fill these tables rightly (test_gold.py).
"""

# pandas types any selection as "frame or series": what these rules would find here is only that.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false, reportUnhashable=false

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from feature_repo.definitions import PUSHED_WEATHER, VIEWS, served_features
from feature_repo.service import (
    EVENT_TIMESTAMP,
    HistoricalFeatures,
    historical_features,
    online_features,
    serving,
)
from feature_repo.store import apply, compare_online_with_offline, materialize
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table
from foundation.settings import PROJECT, Settings
from ml.features import AVAILABLE_AT, KEY, MODEL_COLUMNS, NUMERIC, PREDICTED_AS_OF, online_inputs, with_features
from orchestrator.assets.features import ONLINE, feature_assets
from tests.integration import small_lake
from tests.integration.small_lake import (
    FEATURE_TABLES,
    FIRST_DAY,
    LAST_DAY,
    SCHEDULED_THROUGH,
    Lake,
    feature_rows,
    make_lake,
    own_home,
    real_flights,
    real_weather,
)

lake = small_lake.lake
ROWS = 100_000
MICROSECOND = timedelta(microseconds=1)
LIVES = {"carrier_history": 28 * 24, "route_history": 28 * 24, "aircraft_history": 28 * 24, "origin_weather": 6}
KEYS = {
    "carrier_history": "carrier",
    "route_history": "route",
    "aircraft_history": "tailnum",
    "origin_weather": "origin",
}
HISTORY = ("delayed_share", "delayed_share_28d", "mean_arrival_delay_28d")
WEATHER = ("temp", "humid", "wind_speed", "wind_gust", "precip", "visib", "pressure")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """The days that 100,000 flights take; some rows of Gold late by days, so that they overtake newer ones."""
    with own_home(tmp_path_factory.mktemp("wide")) as settings:
        last = date(2013, 4, 20)
        made = make_lake(settings, real_flights(last=last), real_weather(last=last), last)
        chance = np.random.default_rng(6)
        features = {}
        for name, rows in made.features.items():
            late = chance.random(len(rows)) < 0.03
            minutes = pd.to_timedelta(chance.integers(1, 4 * 24 * 60, len(rows)), unit="min")
            moved = rows["available_at"].mask(late, (rows["available_at"] + minutes).astype("datetime64[us, UTC]"))
            features[name] = rows.assign(available_at=moved).drop_duplicates([KEYS[name], "available_at"])
            load_table(settings, "gold", name).overwrite(feature_rows(name, features[name]))
        yield Lake(settings, made.flights, features)


@pytest.fixture(scope="module")
def asked(wide: Lake) -> pd.DataFrame:
    """100,000 questions: flights two hours before they leave, and what goes wrong with keys and moments."""
    chance = np.random.default_rng(2013)
    rows = wide.flights.sample(ROWS, replace=len(wide.flights) < ROWS, random_state=1).reset_index(drop=True)
    rows[EVENT_TIMESTAMP] = rows["scheduled_departure"] - timedelta(hours=2)
    # At the edges of rows of Gold: the moment itself, and one microsecond to either side; the end of its life likewise.
    for number, name in enumerate(FEATURE_TABLES):
        gold = wide.features[name].sample(3_000, replace=True, random_state=number).reset_index(drop=True)
        at = slice(number * 3_000, number * 3_000 + 2_999)
        lives = timedelta(hours=LIVES[name])
        shift = pd.Series(chance.choice([-MICROSECOND, 0 * MICROSECOND, MICROSECOND], 3_000))
        ends = pd.Series(chance.choice([timedelta(0), lives], 3_000))
        rows.loc[at, KEYS[name]] = gold[KEYS[name]].to_numpy()
        rows.loc[at, EVENT_TIMESTAMP] = (gold["available_at"] + shift + ends).astype("datetime64[us, UTC]").to_numpy()
    rows[EVENT_TIMESTAMP] = pd.to_datetime(rows[EVENT_TIMESTAMP], utc=True).astype("datetime64[us, UTC]")
    for key in KEYS.values():
        rows.loc[chance.integers(12_000, ROWS, 500), key] = None
        rows.loc[chance.integers(12_000, ROWS, 500), key] = "nobody's"
    rows.loc[chance.integers(12_000, ROWS, 100), EVENT_TIMESTAMP] = pd.NaT
    # Ties: the same question many times, far apart.
    rows.loc[chance.integers(12_000, ROWS, 2_000)] = rows.loc[chance.integers(12_000, ROWS, 2_000)].to_numpy()
    rows[EVENT_TIMESTAMP] = pd.to_datetime(rows[EVENT_TIMESTAMP], utc=True).astype("datetime64[us, UTC]")
    return rows.set_index(chance.permutation(ROWS))


@pytest.fixture(scope="module")
def answered(wide: Lake, asked: pd.DataFrame) -> HistoricalFeatures:
    return historical_features(wide.settings, asked)


def moments_of(column: pd.Series) -> np.ndarray:
    """UTC, without saying so: numpy has no zones."""
    return column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")


def brute_force(rows: pd.DataFrame, features: pd.DataFrame, key: str, lives: timedelta) -> np.ndarray:
    """For each row the place in `features` of the newest one that was there and alive, by comparing it with all of its key;
    -1 without one."""
    found = np.full(len(rows), -1)
    moments = moments_of(rows[EVENT_TIMESTAMP]).astype("int64")
    times = moments_of(features["available_at"]).astype("int64")
    unknown = rows[EVENT_TIMESTAMP].isna().to_numpy()
    life = int(lives / MICROSECOND)
    places = {name: np.asarray(index) for name, index in features.reset_index(drop=True).groupby(key).indices.items()}
    for name, asking in rows.reset_index(drop=True).groupby(key).indices.items():
        if name not in places:
            continue
        there = times[places[name]]
        for start in range(0, len(asking), 2_000):
            some = asking[start : start + 2_000]
            age = moments[some][:, None] - there[None, :]
            usable = (age >= 0) & (age <= life) & ~unknown[some][:, None]
            youngest = np.where(usable, age, np.iinfo("int64").max).argmin(axis=1)
            found[some] = np.where(usable.any(axis=1), places[name][youngest], -1)
    return found


@pytest.mark.parametrize("view", FEATURE_TABLES)
def test_each_of_100_000_rows_gets_what_a_brute_force_join_finds(
    wide: Lake, asked: pd.DataFrame, answered: HistoricalFeatures, view: str
) -> None:
    features = wide.features[view]
    place = brute_force(asked, features, KEYS[view], timedelta(hours=LIVES[view]))
    none = place < 0
    frame = answered.frame
    assert len(frame) == ROWS
    assert 0.01 < none.mean() < 0.5, "both outcomes must be tried"
    for name in WEATHER if view == "origin_weather" else HISTORY:
        truth = np.where(none, np.nan, features[name].to_numpy(dtype="float64")[place])
        np.testing.assert_array_equal(frame[f"{view}__{name}"].to_numpy(), truth, err_msg=name)
    known_from = moments_of(features["available_at"])[place]
    found = moments_of(frame[f"{view}__available_at"])
    np.testing.assert_array_equal(found, np.where(none, np.datetime64("NaT"), known_from))


def test_the_calendar_of_100_000_rows_is_that_of_the_schedule(
    asked: pd.DataFrame, answered: HistoricalFeatures
) -> None:
    said = answered.frame[
        ["flight_calendar__departure_minute", "flight_calendar__arrival_minute", "flight_calendar__weekday"]
    ]
    truth = [
        (
            int(f"{departs:04d}"[:2]) * 60 + departs % 100,
            int(f"{arrives:04d}"[:2]) * 60 + arrives % 100,
            day.isoweekday() - 1,
        )
        for day, departs, arrives in zip(
            asked["flight_date"], asked["sched_dep_time"].astype(int), asked["sched_arr_time"].astype(int), strict=True
        )
    ]
    np.testing.assert_array_equal(said.to_numpy(), np.array(truth, dtype="float64"))


def test_the_question_comes_back_as_it_was(wide: Lake, asked: pd.DataFrame, answered: HistoricalFeatures) -> None:
    """Order, index and every column; and the snapshots that were read are named."""
    pd.testing.assert_frame_equal(answered.frame.filter(items=asked.columns), asked)
    assert set(answered.frame) == {*asked.columns, *served_features()}
    assert answered.snapshots == {
        f"lake.gold.{name}": current_snapshot_id(load_table(wide.settings, "gold", name)) for name in FEATURE_TABLES
    }


def test_a_question_of_no_rows_or_no_time_zone_is_answered_or_refused(wide: Lake, asked: pd.DataFrame) -> None:
    nothing = historical_features(wide.settings, asked.head(0)).frame
    assert (len(nothing), set(nothing)) == (0, {*asked.columns, *served_features()})
    nowhen = historical_features(
        wide.settings,
        asked.head(2).assign(**{EVENT_TIMESTAMP: pd.Series(pd.NaT, asked.index[:2], dtype="datetime64[us, UTC]")}),
    )
    assert nowhen.frame[AVAILABLE_AT].isna().all(axis=None)
    assert nowhen.frame["flight_calendar__weekday"].notna().all()
    with pytest.raises(AssayError, match="no time zone"):
        historical_features(
            wide.settings, asked.assign(**{EVENT_TIMESTAMP: asked[EVENT_TIMESTAMP].dt.tz_localize(None)})
        )


def test_no_feature_of_a_flight_was_known_after_it_was_predicted(wide: Lake) -> None:
    flights = wide.flights.tail(5_000)
    early = wide.flights["scheduled_departure"].max() - timedelta(hours=30)
    for as_of in (None, early.to_pydatetime()):
        frame = with_features(wide.settings, flights, as_of).frame
        pd.testing.assert_frame_equal(frame[KEY], flights[KEY])
        moment = flights["scheduled_departure"] - timedelta(hours=2)
        assert (frame[PREDICTED_AS_OF] == (moment if as_of is None else moment.clip(upper=early))).all()
        for name in AVAILABLE_AT:
            assert frame[name].notna().mean() > 0.5
            assert (frame[name].dropna() <= frame.loc[frame[name].notna(), PREDICTED_AS_OF]).all(), name
        assert (frame[NUMERIC].dtypes == "float64").all()
        assert set(MODEL_COLUMNS) <= set(frame)


def test_a_planted_leak_would_be_seen(wide: Lake) -> None:
    """A row of Gold that says more than can be known: not used before its moment, used from it on."""
    flight = wide.flights.tail(1)
    (moment,) = flight["scheduled_departure"] - timedelta(hours=2)
    table = load_table(wide.settings, "gold", "carrier_history")
    row = wide.features["carrier_history"].query("carrier == @flight.carrier.iloc[0]").tail(1)
    seen = []
    for available_at in (moment + MICROSECOND, moment):
        planted = row.assign(
            available_at=pd.Series(available_at, row.index).astype("datetime64[us, UTC]"), delayed_share=7.0
        )
        table.append(feature_rows("carrier_history", planted))
        seen.append(with_features(wide.settings, flight).frame["carrier_history__delayed_share"].iloc[0] == 7.0)
        table = load_table(wide.settings, "gold", "carrier_history")
        table.overwrite(feature_rows("carrier_history", wide.features["carrier_history"]))
    assert seen == [False, True]


# Online --------------------------------------------------------------------------------------------------------------
def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis of the test's own."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server on PATH")
    port = free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["sqlite", "redis"])
def online(request: pytest.FixtureRequest, lake: Lake) -> Settings:
    """The small lake with an empty online store of either kind."""
    if request.param == "redis":
        return lake.settings.model_copy(update={"feast_online_external": request.getfixturevalue("redis")})
    serving.cache_clear()
    Path(lake.settings.feast_online).unlink(missing_ok=True)
    return lake.settings


def newest(rows: pd.DataFrame, key: str) -> dict[str, dict[str, Any]]:
    """By plain Python: the row of each key with the latest moment."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows.to_dict("records"):
        if row[key] not in found or row["available_at"] >= found[row[key]]["available_at"]:
            found[row[key]] = row
    return found


def served(settings: Settings, view: str, keys: list[str], names: tuple[str, ...]) -> dict[str, list[Any]]:
    store = apply(settings)
    answer = store.get_online_features(
        features=[f"{view}:{name}" for name in names], entity_rows=[{KEYS[view]: key} for key in keys]
    )
    return answer.to_dict()


def test_the_newest_row_is_served_whatever_the_order_of_backfills_and_pushes(online: Settings, lake: Lake) -> None:
    """Plain Feast writes the days in a wild order; nothing newer is ever taken back, no key ever loses its values."""
    weather = lake.features["origin_weather"]
    store = apply(online)
    chance = np.random.default_rng(3)
    days = sorted(weather["observation_date"].unique())
    written = weather.head(0)
    for number in [*chance.permutation(len(days))[:15], 3, 0]:
        rows = weather[weather["observation_date"] == days[number]]
        if chance.random() < 0.5:
            first, last = rows["available_at"].min(), rows["available_at"].max()
            store.materialize(first.to_pydatetime(), last.to_pydatetime(), feature_views=["origin_weather"])
        else:
            columns = ["origin", "available_at", *WEATHER]
            store.push(PUSHED_WEATHER, rows.sample(frac=1, random_state=number)[columns].reset_index(drop=True))
        written = pd.concat([written, rows])
        truth = newest(written, "origin")
        found = served(online, "origin_weather", list(truth), ("available_at", "temp", "visib"))
        assert found["available_at"] == [row["available_at"].to_pydatetime() for row in truth.values()]
        assert found["temp"] == [row["temp"] for row in truth.values()]
        assert found["visib"] == [row["visib"] for row in truth.values()]


def test_a_corrected_day_is_served(online: Settings, lake: Lake) -> None:
    """Gold makes a day again: as old as before, other numbers."""
    materialize(online, "carrier_history", LAST_DAY, LAST_DAY)
    table = load_table(online, "gold", "carrier_history")
    original = table.scan().to_arrow()
    corrected = lake.features["carrier_history"].assign(delayed_share=0.123)
    table.overwrite(feature_rows("carrier_history", corrected))
    try:
        assert len(compare_online_with_offline(online, "carrier_history").different) > 10
        materialize(online, "carrier_history", LAST_DAY, LAST_DAY)
        assert set(served(online, "carrier_history", ["UA", "AA"], ("delayed_share",))["delayed_share"]) == {0.123}
        assert not compare_online_with_offline(online, "carrier_history").different
    finally:
        load_table(online, "gold", "carrier_history").overwrite(original)


def test_the_comparison_finds_what_is_missing_older_different_and_newer(online: Settings, lake: Lake) -> None:
    weather = lake.features["origin_weather"]
    store = apply(online)
    columns = ["origin", "available_at", *WEATHER]
    assert compare_online_with_offline(online, "origin_weather").missing == ["EWR", "JFK", "LGA"]
    last = weather.groupby("origin").tail(1).reset_index(drop=True)
    moments = last["available_at"] + pd.to_timedelta([-1, 0, 1], unit="h")
    pushed = last[columns].assign(available_at=moments.astype("datetime64[us, UTC]"), temp=1.0)
    store.push(PUSHED_WEATHER, pushed)
    found = compare_online_with_offline(online, "origin_weather")
    (older,), (different,), (newer,) = ([pushed["origin"][n]] for n in range(3))
    assert (found.missing, found.older, found.different, found.newer) == ([], [older], [different], [newer])
    assert not found.same
    assert found.days == (SCHEDULED_THROUGH, SCHEDULED_THROUGH)
    materialize(online, "origin_weather", SCHEDULED_THROUGH, SCHEDULED_THROUGH)
    again = compare_online_with_offline(online, "origin_weather")
    assert (again.same, again.newer) == (True, [newer])


def test_a_backfill_leaves_the_newest_online_and_counts_its_days(online: Settings, lake: Lake) -> None:
    for view in FEATURE_TABLES:
        rows = lake.features[view]
        day = "observation_date" if view == "origin_weather" else "flight_date"
        done = materialize(online, view, FIRST_DAY, date(2013, 1, 3))
        counts = rows[day].value_counts()
        assert done["rows_by_day"] == {date(2013, 1, n): counts[date(2013, 1, n)] for n in (1, 2, 3)}
        assert done["keys_written"] == rows[KEYS[view]].nunique()
        assert done["snapshot_id"] == current_snapshot_id(load_table(online, "gold", view))
        assert compare_online_with_offline(online, view).same
    with pytest.raises(AssayError, match=r"lake\.gold\.origin_weather has no row for 2014-01-01"):
        materialize(online, "origin_weather", date(2014, 1, 1), date(2014, 1, 1))


def test_serving_tells_ages_by_the_platforms_clock_and_knows_what_it_does_not_know(
    online: Settings, lake: Lake
) -> None:
    noon = datetime(2013, 2, 11, 17, tzinfo=UTC)
    settings = online.model_copy(update={"now": noon})
    for view in FEATURE_TABLES:
        materialize(settings, view, FIRST_DAY, LAST_DAY)
    flights = lake.flights.dropna(subset="tailnum").tail(3).to_dict("records")
    flights[1] |= {"tailnum": None}
    flights[2] |= {"carrier": "ZZ", "route": "JFK-QQQ", "tailnum": "N0", "origin": "QQQ"}
    known, no_aircraft, nobody = online_features(settings, flights)
    assert set(known) == {*served_features(), *(f"{view}__age_hours" for view in FEATURE_TABLES)}
    truth = newest(lake.features["carrier_history"], "carrier")[flights[0]["carrier"]]
    assert known["carrier_history__delayed_share_28d"] == truth["delayed_share_28d"]
    assert known["carrier_history__age_hours"] == 30 == (noon - truth["available_at"]).total_seconds() / 3600
    assert no_aircraft["aircraft_history__age_hours"] is None
    assert no_aircraft["carrier_history__age_hours"] == 30
    assert {nobody[f"{view}__age_hours"] for view in FEATURE_TABLES} == {None}
    assert nobody["flight_calendar__weekday"] == 6.0
    assert online_features(settings, []) == []


def test_serving_gives_a_model_what_training_gave_it(online: Settings, lake: Lake) -> None:
    """The same flights, asked offline at the moment of Gold's newest row, and online at that moment: the same inputs."""
    for view in FEATURE_TABLES:
        materialize(online, view, FIRST_DAY, SCHEDULED_THROUGH if view == "origin_weather" else LAST_DAY)
    (now,) = {lake.features["origin_weather"]["available_at"].max()}
    flights = lake.flights.tail(200).assign(scheduled_departure=now + timedelta(hours=2))
    offline = with_features(online, flights).frame
    given = online_inputs(online.model_copy(update={"now": now.to_pydatetime()}), flights.to_dict("records"))
    pd.testing.assert_frame_equal(given.frame, offline[MODEL_COLUMNS].reset_index(drop=True), check_dtype=False)
    gone = [len(unknown) + len(stale) for unknown, stale in zip(given.unknown, given.stale, strict=True)]
    assert gone == offline[AVAILABLE_AT].isna().sum(axis=1).tolist()


def test_what_holds_a_file_is_said_and_nothing_is_lost(lake: Lake) -> None:
    materialize(lake.settings, "carrier_history", FIRST_DAY, LAST_DAY)
    before = served(lake.settings, "carrier_history", ["UA"], ("delayed_share", "available_at"))
    for file, says in (
        (lake.settings.feast_registry.removeprefix("sqlite:///"), "Feast's registry cannot be written"),
        (lake.settings.feast_online, r"The online store .*online\.db cannot be written: database is locked"),
    ):
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("begin exclusive")
        try:
            with pytest.raises(AssayError, match=says):
                materialize(lake.settings, "carrier_history", FIRST_DAY, LAST_DAY)
        finally:
            holder.close()
    assert served(lake.settings, "carrier_history", ["UA"], ("delayed_share", "available_at")) == before


# Assets and the command ------------------------------------------------------------------------------------------------
def test_a_range_is_one_run_with_a_count_for_each_day_and_a_check(lake: Lake) -> None:
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
    assets = feature_assets(lake.settings, days)
    done = dg.materialize(assets, instance=dg.DagsterInstance.ephemeral(), tags=range_tags(FIRST_DAY, LAST_DAY))
    assert done.success
    for view in FEATURE_TABLES:
        rows = lake.features[view]
        counts = rows["observation_date" if view == "origin_weather" else "flight_date"].value_counts()
        found = {
            event.partition: event.step_materialization_data.materialization.metadata
            for event in done.get_asset_materialization_events()
            if event.asset_key == dg.AssetKey(["features", view])
        }
        assert len(found) == 40
        for day, metadata in found.items():
            assert metadata["dagster/partition_row_count"].value == counts[date.fromisoformat(day)]
            assert metadata["snapshot_id"].value == str(current_snapshot_id(load_table(lake.settings, "gold", view)))
    checks = {check.asset_key.path[-1]: check.passed for check in done.get_asset_check_evaluations()}
    assert {check.check_name for check in done.get_asset_check_evaluations()} == {ONLINE}
    assert checks == dict.fromkeys(FEATURE_TABLES, True)


def test_a_day_without_weather_is_named_and_the_others_go_online(lake: Lake) -> None:
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
    (weather,) = (one for one in feature_assets(lake.settings, days) if one.key.path[-1] == "origin_weather")
    instance = dg.DagsterInstance.ephemeral()
    after = SCHEDULED_THROUGH + timedelta(days=1)
    done = dg.materialize([weather], instance=instance, tags=range_tags(SCHEDULED_THROUGH, after), raise_on_error=False)
    assert not done.success
    (failed,) = (event.step_failure_data for event in done.get_step_failure_events())
    assert f"lake.gold.origin_weather has no row of {after}" in str(failed.user_failure_data)
    assert instance.get_materialized_partitions(weather.key) == {str(SCHEDULED_THROUGH)}
    assert compare_online_with_offline(lake.settings, "origin_weather").same


def range_tags(first: date, last: date) -> Mapping[str, str]:
    return {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}


def test_the_plain_feast_command_is_as_safe_as_ours(lake: Lake) -> None:
    """apply, lists, and February before January, with what `./assay env` exports."""
    exported = {
        "PYTHONPATH": str(PROJECT),
        "ASSAY_SCHEMA_PREFIX": "",
        "ASSAY_FEAST_REGISTRY": lake.settings.feast_registry,
        "ASSAY_FEAST_ONLINE": lake.settings.feast_online,
        "ASSAY_EMBEDDED": "feast-registry,feast-online",
    }

    def feast(*words: str) -> str:
        command = [str(Path(sys.executable).parent / "feast"), *words]
        environment = {**os.environ, **exported}
        done = subprocess.run(
            command, cwd=PROJECT / "feature_repo", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    serving.cache_clear()
    Path(lake.settings.feast_online).unlink(missing_ok=True)
    feast("apply")
    views = feast("feature-views", "list")
    assert all(view in views for view in (*FEATURE_TABLES, "flight_calendar"))
    assert "arrival_delay_v1" in feast("feature-services", "list")
    feast("materialize", "2013-02-01T00:00:00", "2013-02-12T00:00:00")
    before = compare_online_with_offline(lake.settings, "carrier_history")
    feast("materialize", "2013-01-01T00:00:00", "2013-01-05T00:00:00")
    after = compare_online_with_offline(lake.settings, "carrier_history")
    # OO flew in January only.
    assert (before.older, before.different, before.missing) == ([], [], ["OO"])
    assert after == before
    assert VIEWS.keys() == set(FEATURE_TABLES)
