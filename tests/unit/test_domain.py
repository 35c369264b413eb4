"""The contracts of the default domain promise what its model rests on."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from foundation.contract import RowMoment, find_contract, load_contracts
from foundation.errors import AssayError
from foundation.settings import Settings, load
from orchestrator.assets.models import MODEL, PREDICTIONS, TRAINING_SET, model_assets

NEW_YORK = ZoneInfo("America/New_York")


def test_the_six_feeds_are_there() -> None:
    assert list(load_contracts()) == ["airlines", "airports", "flights", "planes", "schedule", "weather"]


def test_flights_of_a_day_are_promised_for_six_and_late_from_noon_of_the_next() -> None:
    flights = find_contract("flights")
    # New York was five hours behind UTC in January.
    assert flights.daily.available.of(date(2013, 1, 31)) == datetime(2013, 2, 1, 11, tzinfo=UTC)
    assert flights.daily.due.of(date(2013, 1, 31)) == datetime(2013, 2, 1, 17, tzinfo=UTC)


def test_a_schedule_is_available_before_any_flight_of_its_day() -> None:
    schedule = find_contract("schedule")
    for number in range(365):
        day = date(2013, 1, 1) + timedelta(days=number)
        assert schedule.daily.available.of(day) < datetime.combine(day, time(), NEW_YORK)


def test_a_schedule_knows_no_outcome() -> None:
    outcomes = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}
    assert not outcomes & {column.name for column in find_contract("schedule").columns}
    assert outcomes < {column.name for column in find_contract("flights").columns}


def test_an_hours_weather_is_known_when_the_hour_is_over_and_a_flight_only_with_its_day() -> None:
    assert find_contract("weather").daily.row_available == RowMoment("time_hour", 60)
    assert find_contract("flights").daily.row_available is None


def test_a_model_trains_by_itself_only_where_that_is_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
    months = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2014-01-01")

    def automated() -> set[dg.AssetKey]:
        specs = [spec for asset in model_assets(load(settings.home), days, months) for spec in asset.specs]
        return {spec.key for spec in specs if spec.automation_condition}

    assert automated() == {PREDICTIONS}
    monkeypatch.setenv("ASSAY_TRAINING", "automatic")
    assert automated() == {PREDICTIONS, TRAINING_SET, MODEL}
    monkeypatch.setenv("ASSAY_TRAINING", "often")
    with pytest.raises(AssayError, match=r"ASSAY_TRAINING is 'often': .*'by-hand' or 'automatic'"):
        automated()
