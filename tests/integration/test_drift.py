"""Drift on real flights of ten weeks: quiet while nothing is wrong, and loud about exactly what is.

Belongs here: claims about ml/drift and monitoring/arrival_delay_drift. Does not belong here: how good predictions are.
"""

# pandas types any selection as "frame or series": what these rules would find here is only that.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from deploy.embedded.programs import make_catalog
from foundation.errors import AssayError
from foundation.lake import current_snapshot_id, load_table, local_path
from foundation.settings import Settings
from ml.drift import COLUMNS, ROWS, SAID, WINDOW_DAYS, compare, draw, drift, kept
from ml.features import on_days
from ml.predicting import predict
from ml.promotion import champion, record
from ml.training import train
from ml.training_set import learnt_from, make_training_set
from orchestrator.assets.monitoring import CHECK, DRIFT, monitoring_assets
from spark_assets.clone import clone_lake
from tests.integration.small_lake import FEBRUARY, FIRST_DAY, make_lake, own_home, real_flights, real_weather

MARCH = date(2013, 3, 1)
LAST = date(2013, 3, 14)
TOO_EARLY, JUDGED = date(2013, 2, 13), date(2013, 3, 7)
PREDICTED = [FEBRUARY + timedelta(days=n) for n in range((LAST - FEBRUARY).days + 1)]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home with predictions of six weeks, by two champions."""
    with own_home(tmp_path_factory.mktemp("home")) as settings, pytest.MonkeyPatch.context() as patch:
        # Who is champion is not the claim here.
        patch.setattr("ml.training.record", lambda s, model, _passed, *rest: record(s, model, True, *rest))
        make_lake(settings, real_flights(FIRST_DAY, LAST), real_weather(FIRST_DAY, LAST), LAST)
        make_training_set(settings, [FIRST_DAY, FEBRUARY], {})
        train(settings, FEBRUARY, {})
        train(settings, MARCH, {})
        assert not [outcome.error for outcome in predict(settings, PREDICTED, {}) if outcome.error]
        yield settings


def rows_of(settings: Settings) -> pd.DataFrame:
    rows = load_table(settings, *("monitoring", "arrival_delay_drift")).scan().to_arrow().to_pandas()
    return rows.sort_values(["flight_date", "column_name", "statistic"], ignore_index=True)


@pytest.fixture
def plant(predicted: Settings) -> Iterator[Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]]:
    """Changes the predictions of the 28 days up to JUDGED; afterwards they are what they were."""
    table = load_table(predicted, "predictions", "arrival_delay")
    days = [JUDGED - timedelta(days=n) for n in range(WINDOW_DAYS)]
    before = table.scan(row_filter=on_days(days)).to_arrow()

    def write(rows: pa.Table) -> None:
        load_table(predicted, "predictions", "arrival_delay").overwrite(rows, overwrite_filter=on_days(days))

    def change(how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        write(pa.Table.from_pandas(how(before.to_pandas()), schema=before.schema, preserve_index=False))

    yield change
    write(before)


def test_unchanged_months_are_quiet(predicted: Settings) -> None:
    # of 14, 16, 24, 28, 28 and 28 days
    days = [*(date(2013, 2, day) for day in (14, 16, 24, 28)), JUDGED, LAST]
    outcomes = drift(predicted, days, {})
    assert {outcome.day: outcome.drifted for outcome in outcomes} == {day: [] for day in days}
    assert {outcome.model.month for outcome in outcomes if outcome.model} == {"2013-02", "2013-03"}


def scaled(column: str, factor: float, offset: float = 0.0) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda rows: rows.assign(**{column: rows[column] * factor + offset})


PLANTED = {
    "carrier": lambda rows: rows.assign(carrier=rows["carrier"].replace("AA", "UA")),
    "origin": lambda rows: rows.assign(
        origin=rows["origin"].mask((rows["origin"] == "LGA") & (rows.index % 3 == 0), "JFK")
    ),
    "distance": scaled("distance", 1.609),
    "flight_calendar__departure_minute": scaled("flight_calendar__departure_minute", 1, 5 * 60),
    "flight_calendar__weekday": scaled("flight_calendar__weekday", 1, 1),
    "origin_weather__temp": scaled("origin_weather__temp", 5 / 9, -32 * 5 / 9),
    "origin_weather__pressure": scaled("origin_weather__pressure", 0, np.nan),
    "carrier_history__delayed_share_28d": scaled("carrier_history__delayed_share_28d", 100),
    "route_history__mean_arrival_delay_28d": scaled("route_history__mean_arrival_delay_28d", 0, np.nan),
    "aircraft_history__delayed_share_28d": scaled("aircraft_history__delayed_share_28d", 0, 0.9),
    SAID: scaled(SAID, 0.2),
}


@pytest.mark.parametrize("column", PLANTED)
def test_what_is_planted_is_named_and_nothing_else(
    predicted: Settings, plant: Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None], column: str
) -> None:
    plant(PLANTED[column])
    (outcome,) = drift(predicted, [JUDGED], {})
    assert outcome.drifted == [column]


def test_the_statistics_are_those_of_the_textbook(predicted: Settings) -> None:
    """Distances of sorted samples and of shares, by hand."""
    rng = np.random.default_rng(7)
    reference = pd.DataFrame({name: rng.normal(5, 2, 4000) for name in COLUMNS})
    window = pd.DataFrame({name: rng.normal(6, 3, 4000) for name in COLUMNS})
    window.loc[:999, "distance"] = np.nan
    for frame, shares in ((reference, (0.5, 0.3, 0.2)), (window, (0.2, 0.3, 0.5))):
        for name in ("carrier", "origin", "dest"):
            frame[name] = np.repeat(["A", "B", "C"], [int(4000 * share) for share in shares])
    _, found = compare(reference, window)
    values = {(one.column, one.statistic): one.value for one in found}
    temp = "origin_weather__temp"
    by_hand = np.abs(np.sort(reference[temp]) - np.sort(window[temp])).mean() / reference[temp].std()
    assert values[temp, "wasserstein"] == pytest.approx(by_hand, rel=1e-3)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    entropy = lambda a: (a * np.log(a / ((p + q) / 2))).sum() / 2  # noqa: E731
    assert values["carrier", "jensen_shannon"] == pytest.approx((entropy(p) + entropy(q)) ** 0.5)
    assert values["distance", "missing_share_change"] == 0.25


def test_the_reference_is_what_the_champion_of_the_day_learnt_from(predicted: Settings) -> None:
    drift(predicted, [date(2013, 2, 28), JUDGED], {})
    rows = rows_of(predicted).set_index("flight_date")
    for day in (date(2013, 2, 28), JUDGED):
        model = champion(predicted, day)
        assert model
        learnt = learnt_from(predicted, model)
        assert max(learnt.frame["flight_date"]) < day.replace(day=1)
        of_day = rows.loc[day]
        assert set(of_day["model_version"]) == {model.version}
        assert set(of_day["training_set_snapshot_id"]) == set(
            learnt.snapshots["lake.models.arrival_delay_training_set"]
        )
        assert set(of_day["reference_rows"]) == {min(ROWS, len(learnt.frame))}
        assert set(of_day["window_days"]) == {WINDOW_DAYS}
        assert len(of_day) == 2 * len(COLUMNS)


def test_twice_is_the_same_and_a_day_is_the_same_alone_and_in_a_range(predicted: Settings) -> None:
    days = [JUDGED - timedelta(days=1), JUDGED]
    (_, outcome) = drift(predicted, days, {"dagster.run_id": "r1"})
    before = rows_of(predicted)
    assert outcome.report
    report = json.loads(Path(local_path(outcome.report)).read_text())
    (again,) = drift(predicted, [JUDGED], {"dagster.run_id": "r2"})
    pd.testing.assert_frame_equal(rows_of(predicted), before)
    assert again.report == outcome.report
    assert json.loads(Path(local_path(outcome.report)).read_text())["metrics"] == report["metrics"]
    table = load_table(predicted, "monitoring", "arrival_delay_drift")
    snapshot = table.current_snapshot()
    assert snapshot
    assert snapshot.summary
    assert (current_snapshot_id(table), snapshot.summary["dagster.run_id"]) == (again.snapshot_id, "r2")


def test_a_day_with_too_few_days_before_it_is_not_judged_and_one_without_predictions_is_an_error(
    predicted: Settings,
) -> None:
    early, july, good = drift(predicted, [TOO_EARLY, date(2013, 7, 4), JUDGED], {})
    assert (early.error, early.model, early.columns) == (None, None, ())
    assert "predictions/arrival_delay for 2013-07-04" in str(july.error)
    assert good.model
    with pytest.raises(AssayError, match="says nothing of 2013-02-13"):
        kept(predicted, TOO_EARLY)


def test_the_page_is_made_when_it_is_asked_for(predicted: Settings, tmp_path: Path) -> None:
    file = tmp_path / "pages" / "drift.html"
    shown = draw(predicted, JUDGED, file)
    assert "origin_weather__temp" in file.read_text()
    drift(predicted, [JUDGED], {})
    assert shown == kept(predicted, JUDGED)


def test_the_check_warns_and_names_the_columns(
    predicted: Settings, plant: Callable[[Callable[[pd.DataFrame], pd.DataFrame]], None]
) -> None:
    daily = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
    assets = monitoring_assets(predicted, daily)

    last = TOO_EARLY + timedelta(days=2)

    def check() -> dg.AssetCheckEvaluation:
        days = {"dagster/asset_partition_range_start": str(TOO_EARLY), "dagster/asset_partition_range_end": str(last)}
        with dg.DagsterInstance.ephemeral() as instance:
            done = dg.materialize(assets, tags=days, instance=instance)
            made = instance.get_materialized_partitions(DRIFT)
        assert made == {str(TOO_EARLY + timedelta(days=n)) for n in range(3)}
        (evaluation,) = done.get_asset_check_evaluations()
        assert (evaluation.check_name, evaluation.severity) == (CHECK, dg.AssetCheckSeverity.WARN)
        return evaluation

    assert check().passed
    plant(scaled("distance", 1.609))
    evaluation = check()
    assert not evaluation.passed
    assert evaluation.description == "distance drifted on 2 of 2 days"
    assert set(evaluation.metadata["days"].value) == {str(last - timedelta(days=1)), str(last)}


@pytest.fixture
def branch(predicted: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A branch of that home, without services."""
    home = predicted.home / "branches" / f"pr_{uuid4().hex[:8]}"  # MLflow knows a name for ever
    home.mkdir(parents=True)
    made = predicted.model_copy(update={"environment": f"pr-{home.name[3:]}", "home": home, "base": predicted.home})
    make_catalog(made.catalog_file)
    clone_lake(predicted, made)
    for module in ("registry", "promotion"):  # a base has no MLflow of elsewhere, and here there is no server
        monkeypatch.setattr(f"ml.{module}.base_settings", lambda _: predicted)
    return made


def test_a_branch_without_a_champion_drifts_as_its_base_does(predicted: Settings, branch: Settings) -> None:
    (of_base,) = drift(predicted, [JUDGED], {})
    before = current_snapshot_id(load_table(predicted, *DRIFT.path))
    (own,) = drift(branch, [JUDGED], {})
    assert (own.error, own.model) == (None, champion(predicted, JUDGED))
    assert own.columns == of_base.columns
    assert current_snapshot_id(load_table(predicted, *DRIFT.path)) == before


def test_a_branchs_model_is_not_taken_for_its_bases_of_the_same_number(
    predicted: Settings, branch: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.training.record", lambda s, model, _passed, *rest: record(s, model, True, *rest))
    own = train(branch, MARCH, {}).model
    bases = champion(branch, FEBRUARY)
    assert bases and (bases.name, bases.version) == ("arrival_delay", own.version)
    assert champion(branch, MARCH) == own
    predict(branch, [date(2013, 2, 28), MARCH], {})
    rows = load_table(branch, "predictions", "arrival_delay").scan(row_filter=on_days([date(2013, 2, 28), MARCH]))
    said = rows.to_arrow().to_pandas().groupby("flight_date")["model_run_id"].unique().map(list).to_dict()
    assert said == {date(2013, 2, 28): [bases.run_id], MARCH: [own.run_id]}
