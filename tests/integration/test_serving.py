"""The model over HTTP, on a small lake of its own: real Feast, real MLflow, FastAPI in process.

Belongs here: claims about ml/serve and `./assay serve`. Does not belong here: whether the model or its features are right.
"""

# pandas types any selection as "frame or series": what these rules would find here is only that.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient

from feature_repo.definitions import VIEWS
from feature_repo.store import materialize
from foundation.settings import PROJECT, Settings
from ml.features import FLIGHT_COLUMNS, MODEL_COLUMNS, with_features
from ml.promotion import champion, record, roll_back
from ml.registry import RegisteredModel, RegistryDown, load_model, model_versions, probabilities
from ml.serve.app import create_app
from ml.served_model import encode, matrix
from ml.training import train
from ml.training_set import make_training_set
from tests.integration.small_lake import FEBRUARY, FIRST_DAY, SCHEDULED_THROUGH, Lake, lake

__all__ = ["lake"]

MARCH = date(2013, 3, 1)
# The weather of the lake ends with the 10th, and midnight's hour is known at one.
TOMORROW = SCHEDULED_THROUGH + timedelta(days=1)
NOW = datetime(2013, 2, 11, 6, 30, tzinfo=UTC)
FLIGHT = {
    "flight_date": "2013-02-11",
    "carrier": "UA",
    "flight": 1,
    "origin": "EWR",
    "dest": "LAX",
    "tailnum": None,
    "sched_dep_time": 1745,
    "sched_arr_time": 2100,
    "distance": 2454,
}


def promoted(settings: Settings, month: date) -> RegisteredModel:
    """The model of a month, made champion whatever the gate thought of it: that is not the claim here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml.training.record", lambda s, model, _passed, *rest: record(s, model, True, *rest))
        return train(settings, month, {}).model


@pytest.fixture(scope="module")
def served(lake: Lake) -> Settings:
    """A lake with a champion of February and all views online; the clock stands on the morning of the 11th."""
    make_training_set(lake.settings, [FIRST_DAY, FEBRUARY], {})
    promoted(lake.settings, FEBRUARY)
    for view in VIEWS:
        materialize(lake.settings, view, FIRST_DAY, SCHEDULED_THROUGH)
    return at(lake.settings, NOW)


def at(settings: Settings, moment: datetime) -> Settings:
    """The same home at another moment."""
    return settings.model_copy(update={"now": moment})


@pytest.fixture
def client(served: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(served)) as client:
        yield client


@pytest.fixture(scope="module")
def tomorrow(lake: Lake) -> pd.DataFrame:
    """The last day's flights, flown once more a day later: of which nothing but the schedule is known."""
    flights = lake.flights[lake.flights["flight_date"] == SCHEDULED_THROUGH]
    flights = flights.assign(
        flight_date=TOMORROW, scheduled_departure=flights["scheduled_departure"] + timedelta(days=1)
    )
    return flights.sample(60, random_state=1).filter(items=FLIGHT_COLUMNS).reset_index(drop=True)


def as_requests(flights: pd.DataFrame) -> list[dict[str, Any]]:
    rows = flights.drop(columns="scheduled_departure").assign(flight_date=flights["flight_date"].astype(str))
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in rows.to_dict("records")]


def test_what_is_served_is_what_the_champion_says_of_the_same_flights_offline(
    client: TestClient, served: Settings, tomorrow: pd.DataFrame
) -> None:
    answers = client.post("/predict", json=as_requests(tomorrow)).raise_for_status().json()
    # All of them leave more than two hours from now, so that offline looks at the same moment.
    known = with_features(served, tomorrow, as_of=NOW).frame
    assert (known["predicted_as_of"] == pd.Timestamp(NOW)).all()
    model = champion(served, FEBRUARY)
    assert model
    said = probabilities(served, model, known.filter(items=MODEL_COLUMNS))
    np.testing.assert_allclose([a["probability"] for a in answers], said["delay_probability"], rtol=1e-9)
    assert [a["delayed"] for a in answers] == said["delayed"].tolist()
    assert {a["model_version"] for a in answers} == {model.version}
    for view in VIEWS:
        known_from = known[f"{view}__available_at"]
        assert [view in (*a["unknown"], *a["stale"]) for a in answers] == known_from.isna().tolist()
        ages = [a["feature_age_hours"][view] for a in answers if view not in (*a["unknown"], *a["stale"])]
        np.testing.assert_allclose(ages, (pd.Timestamp(NOW) - known_from.dropna()).dt.total_seconds() / 3600)
    assert any(a["stale"] for a in answers)
    assert any(not a["stale"] and not a["unknown"] for a in answers)


def test_one_flight_is_answered_as_one_and_a_list_in_its_order(client: TestClient, tomorrow: pd.DataFrame) -> None:
    requests = as_requests(tomorrow)[:5]
    answers = client.post("/predict", json=requests).json()
    assert [client.post("/predict", json=one).json()["probability"] for one in requests] == [
        a["probability"] for a in answers
    ]


def test_keys_that_nobody_knows_are_named_and_the_model_answers_without(client: TestClient, served: Settings) -> None:
    answer = client.post("/predict", json=FLIGHT | {"carrier": "ZZ", "dest": "QQQ", "tailnum": "N0"}).json()
    assert answer["unknown"] == ["carrier_history", "route_history", "aircraft_history"]
    assert answer["stale"] == []
    assert answer["feature_age_hours"]["carrier_history"] is None
    assert answer["feature_age_hours"]["origin_weather"] == 1.5
    assert 0 < answer["probability"] < 1
    assert client.post("/predict", json=FLIGHT).json()["unknown"] == ["aircraft_history"], "a flight without a tailnum"


@pytest.mark.parametrize(
    ("later", "stale"),
    [
        (timedelta(hours=4), set()),
        (timedelta(hours=7), {"origin_weather"}),
        (timedelta(days=29), {"carrier_history", "route_history", "origin_weather"}),
    ],
)
def test_features_past_their_time_to_live_are_named_and_count_as_missing(
    served: Settings, tomorrow: pd.DataFrame, later: timedelta, stale: set[str]
) -> None:
    with TestClient(create_app(at(served, NOW + later))) as client:
        answer = client.post("/predict", json=FLIGHT).json()
    assert set(answer["stale"]) == stale
    flight = {**FLIGHT, "flight_date": TOMORROW, "scheduled_departure": pd.Timestamp("2013-02-11T22:45Z")}
    frame = with_features(served, pd.DataFrame([flight]), as_of=NOW).frame
    frame[[column for view in stale for column in frame.columns if column.startswith(f"{view}__")]] = None
    model = champion(served, FEBRUARY)
    assert model
    frame = frame.filter(items=MODEL_COLUMNS).astype(dict.fromkeys(MODEL_COLUMNS[3:], "float64"))
    (said,) = probabilities(served, model, frame)["delay_probability"]
    assert answer["probability"] == pytest.approx(said)


def test_what_became_known_after_the_clocks_moment_is_not_used(served: Settings) -> None:
    with TestClient(create_app(at(served, NOW - timedelta(days=1)))) as client:
        answer = client.post("/predict", json=FLIGHT).json()
    assert {"carrier_history", "origin_weather"} <= set(answer["unknown"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"flight_date": "2013-02-30"}, "flight_date"),
        ({"carrier": "United"}, "carrier"),
        ({"flight": 0}, "flight"),
        ({"origin": "ewr"}, "origin"),
        ({"sched_dep_time": 1760}, "sched_dep_time"),
        ({"sched_arr_time": 2500}, "sched_arr_time"),
        ({"distance": -1}, "distance"),
        ({"distance": "far"}, "distance"),
        ({"tail_num": "N14228"}, "tail_num"),
        ({"dest": None}, "dest"),
    ],
)
def test_invalid_input_is_refused_naming_the_field(client: TestClient, change: dict[str, Any], field: str) -> None:
    one = client.post("/predict", json=FLIGHT | change)
    assert (one.status_code, [problem["loc"][-1] for problem in one.json()["detail"]]) == (422, [field])
    many = client.post("/predict", json=[FLIGHT, FLIGHT | change])
    assert (many.status_code, many.json()["detail"][0]["loc"][-2:]) == (422, [1, field])


def test_an_empty_list_and_one_without_end_are_refused(client: TestClient) -> None:
    assert client.post("/predict", json=[]).status_code == 422
    assert client.post("/predict", json=[FLIGHT] * 1001).status_code == 422


def test_a_month_without_a_champion_is_refused_with_what_to_do(client: TestClient, served: Settings) -> None:
    refused = client.post("/predict", json=FLIGHT | {"flight_date": "2013-01-15"})
    assert refused.status_code == 503
    assert "no champion in 2013-01" in refused.json()["error"]
    assert "materialize models/arrival_delay" in refused.json()["next"]
    with TestClient(create_app(at(served, datetime(2013, 1, 15, tzinfo=UTC)))) as of_january:
        health = of_january.get("/health")
    assert (health.status_code, health.json()["status"], health.json()["model_version"]) == (503, "no champion", None)
    assert "materialize" in health.json()["problem"]


def test_a_new_champion_answers_without_a_restart_from_its_month_on(served: Settings) -> None:
    (first,) = model_versions(served)
    march = FLIGHT | {"flight_date": "2013-03-02"}
    with TestClient(create_app(served, look_every_seconds=0.05)) as client:

        def answering(flight: dict[str, Any]) -> int:
            return client.post("/predict", json=flight).raise_for_status().json()["model_version"]

        assert (answering(FLIGHT), answering(march)) == (first.version, first.version)
        second = promoted(served, MARCH)
        assert second.version != first.version
        wait_for(lambda: answering(march) == second.version)
        assert answering(FLIGHT) == first.version, "February is judged by the champion of February"
        roll_back(served, first.version, "2013-03", "a test", "a test")
        wait_for(lambda: answering(march) == first.version)


def wait_for(happened: Any) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_registry_that_is_down_stops_nobody_who_is_answered_already(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> None:
        raise RegistryDown("MLflow does not answer", "see ./assay status")

    with TestClient(create_app(served, look_every_seconds=0.02)) as client:
        before = client.post("/predict", json=FLIGHT).json()
        monkeypatch.setattr("ml.serve.champions.champion_of", down)
        wait_for(lambda: client.get("/health").json()["problem"])
        assert client.post("/predict", json=FLIGHT).json() == before
        assert client.get("/health").status_code == 200
        refused = client.post("/predict", json=FLIGHT | {"flight_date": "2013-04-01"})
        assert (refused.status_code, refused.json()["error"]) == (503, "MLflow does not answer")
        assert float(re.findall(r"^assay_champion_lookup_failures (\S+)", client.get("/metrics").text, re.M)[0]) > 0
        monkeypatch.undo()
        wait_for(lambda: client.get("/health").json()["problem"] is None)


def test_metrics_count_what_was_answered_and_what_was_missing(client: TestClient, served: Settings) -> None:
    client.post("/predict", json=[FLIGHT, FLIGHT | {"carrier": "ZZ"}])
    client.post("/predict", json={})
    text = client.get("/metrics").text
    model = champion(served, FEBRUARY)
    assert model
    for line in (
        f'assay_flights_total{{model_version="{model.version}"}} 2.0',
        'assay_requests_total{path="/predict",status="200"} 1.0',
        'assay_requests_total{path="/predict",status="422"} 1.0',
        'assay_features_missing_total{view="carrier_history",why="unknown"} 1.0',
        'assay_features_missing_total{view="aircraft_history",why="unknown"} 2.0',
        "assay_predict_seconds_count 2.0",
    ):
        assert line in text.splitlines()


def test_openapi_says_what_is_asked_and_answered(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/predict", "/health", "/metrics"}
    assert set(document["paths"]["/predict"]["post"]["responses"]) == {"200", "422", "503"}
    assert set(document["components"]["schemas"]["ScheduledFlight"]["properties"]) == set(FLIGHT)


def test_mlflow_serves_the_same_model(served: Settings, tomorrow: pd.DataFrame) -> None:
    """What `mlflow models serve` starts, in process: the model's columns in, the same probabilities out."""
    from mlflow.pyfunc import scoring_server

    model = champion(served, FEBRUARY)
    assert model
    frame = with_features(served, tomorrow).frame.filter(items=MODEL_COLUMNS)
    said = probabilities(served, model, frame)["delay_probability"].tolist()
    records = [{k: None if pd.isna(v) else v for k, v in row.items()} for row in frame.to_dict("records")]
    with TestClient(scoring_server.init(load_model(served, model))) as client:
        answer = client.post("/invocations", json={"dataframe_records": records}).raise_for_status().json()
    assert [row["delay_probability"] for row in answer["predictions"]] == pytest.approx(said)


def test_one_flight_is_encoded_quickly_as_training_encodes_all(served: Settings, tomorrow: pd.DataFrame) -> None:
    model = champion(served, FEBRUARY)
    assert model
    inside = load_model(served, model).unwrap_python_model()
    frame = with_features(served, tomorrow).frame.filter(items=MODEL_COLUMNS)
    frame.loc[0, ["carrier", "dest"]] = ["ZZ", None]
    slowly = inside.booster.predict(encode(frame, inside.encoding), raw_score=True)
    np.testing.assert_array_equal(inside.booster.predict(matrix(frame, inside.encoding), raw_score=True), slowly)


def test_the_command_serves_and_ends_cleanly_with_ctrl_c(served: Settings) -> None:
    command = [sys.executable, "-m", "orchestrator.cli", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "ASSAY_NOW": NOW.isoformat(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=served.home) as process:
        assert process.stdout
        try:
            said = ""
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)):
                line = process.stdout.readline()
                assert line, said
                said += line
            with urllib.request.urlopen(f"{found[0]}/health", timeout=60) as health:
                assert b'"status":"ok"' in health.read()
            taken = subprocess.run(
                [*command[:-1], found[1]], env=environment, cwd=served.home, capture_output=True, text=True
            )
            assert taken.returncode == 1
            assert "--port 0 takes a free one" in taken.stderr
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
