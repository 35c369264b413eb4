"""Contracts: the shipped ones say what the platform does, and what it could not honour is refused in plain words."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.contract import RESERVED, SUFFIX, Moment, RowMoment, find_contract, load_contract, load_contracts
from foundation.errors import AssayError
from tests.unit.feeds import FEED, document, full_document, written

Spoil = Callable[[dict[str, Any]], None]
NEW_YORK = ZoneInfo("America/New_York")


def columns(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in content["schema"][0]["properties"]}


def column(name: str, /, **changes: Any) -> Spoil:
    """Changes a column's fields; None removes one."""

    def spoil(content: dict[str, Any]) -> None:
        for field, value in changes.items():
            columns(content)[name][field] = value
            if value is None:
                del columns(content)[name][field]

    return spoil


def custom(name: str, value: Any) -> Spoil:
    """Changes a custom property; None removes it."""

    def spoil(content: dict[str, Any]) -> None:
        kept = [item for item in content["customProperties"] if item["property"] != name]
        content["customProperties"] = kept + [{"property": name, "value": value}] * (value is not None)

    return spoil


def without_keys(content: dict[str, Any]) -> None:
    for item in columns(content).values():
        item.pop("primaryKey", None)


def another_table(content: dict[str, Any]) -> None:
    content["schema"][0]["name"] = "happenings"


def two_tables(content: dict[str, Any]) -> None:
    content["schema"].append({"name": "more", "physicalType": "table", "properties": []})


def of_format(kind: str) -> Spoil:
    """Changes the format of the feed's files."""

    def spoil(content: dict[str, Any]) -> None:
        content["servers"][0]["format"] = kind

    return spoil


def since(name: str, value: object, called: str = "since") -> Spoil:
    """Gives a column a custom property."""
    return column(name, customProperties=[{"property": called, "value": value}])


def without_format(content: dict[str, Any]) -> None:
    del content["servers"]


def refusal(folder: Path, spoil: Spoil, content: dict[str, Any] | None = None) -> AssayError:
    """The error of a spoiled contract, which names its file and says what to do."""
    content = content or document()
    spoil(content)
    with pytest.raises(AssayError) as refused:
        load_contract(written(folder, content))
    assert f"{FEED}{SUFFIX}" in refused.value.what
    assert refused.value.next_action
    return refused.value


def test_the_shipped_contracts_load_and_are_the_files_there_are() -> None:
    contracts = load_contracts()
    assert list(contracts) == sorted(contracts)
    for feed, contract in contracts.items():
        assert contract.feed == feed
        assert contract.owner != "team:data", "an owner is somebody"
        assert contract.days is None or contract.days.column in contract.keys


def test_a_derived_column_is_not_received(tmp_path: Path) -> None:
    contract = load_contract(written(tmp_path, document()))
    assert [column.name for column in contract.received] == ["day", "code", "amount"]
    assert [column.name for column in contract.columns] == ["day", "code", "amount", "double_amount"]


def test_a_key_is_required_without_saying_so(tmp_path: Path) -> None:
    contract = load_contract(written(tmp_path, document()))
    assert [column.name for column in contract.columns if column.required] == list(contract.keys) == ["day", "code"]


def test_what_a_contract_says_of_values_is_kept(tmp_path: Path) -> None:
    content = document()
    column("amount", logicalTypeOptions={"minimum": 0, "maximum": 9}, enum=[{"value": 1}], classification="pii")(
        content
    )
    column("code", logicalTypeOptions={"pattern": "[A-Z]+"}, required=True)(content)
    custom("max_quarantined", 0.25)(content)
    contract = load_contract(written(tmp_path, content))
    found = {column.name: column for column in contract.columns}
    assert (found["amount"].minimum, found["amount"].maximum, found["amount"].allowed) == (0, 9, ("1",))
    assert found["amount"].classification == "pii"
    assert found["code"].pattern == "[A-Z]+"
    assert contract.max_quarantined == 0.25


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_a_feed_may_come_in_every_promised_format(tmp_path: Path, kind: str) -> None:
    content = document()
    of_format(kind)(content)
    assert load_contract(written(tmp_path, content)).format == kind


def test_a_full_feed_has_no_days_and_every_day_is_expected_of_it(tmp_path: Path) -> None:
    contract = load_contract(written(tmp_path, full_document()))
    assert (contract.load, contract.days, contract.next_due) == ("full", None, None)
    assert contract.expects(date(1999, 1, 1))
    assert contract.expects(None)
    with pytest.raises(AssayError) as refused:
        _ = contract.daily
    assert "events is a full feed" in refused.value.what


def test_a_full_feed_may_say_when_the_next_delivery_is_due(tmp_path: Path) -> None:
    content = full_document()
    custom("due", "D+31 12:00 America/New_York")(content)
    contract = load_contract(written(tmp_path, content))
    assert contract.next_due
    # New York had summer time in July.
    assert contract.next_due.of(date(2013, 6, 10)) == datetime(2013, 7, 11, 16, tzinfo=UTC)


def test_a_daily_feed_expects_the_days_from_its_first_to_its_last(tmp_path: Path) -> None:
    contract = load_contract(written(tmp_path, document()))
    days = [date(2012, 12, 31), date(2013, 1, 1), date(2013, 12, 31), date(2014, 1, 1)]
    assert [contract.expects(day) for day in days] == [False, True, True, False]
    assert contract.next_due is None
    content = document()
    custom("ends", None)(content)
    assert load_contract(written(tmp_path, content)).expects(date(2999, 1, 1))


def test_a_row_may_be_known_some_minutes_after_its_own_moment(tmp_path: Path) -> None:
    content = document()
    assert load_contract(written(tmp_path, content)).daily.row_available is None
    column("amount", physicalType="timestamp", required=True)(content)
    custom("row_available", "amount + 60 minutes")(content)
    assert load_contract(written(tmp_path, content)).daily.row_available == RowMoment("amount", 60)


def test_a_row_that_may_lack_its_moment_cannot_be_known_by_it(tmp_path: Path) -> None:
    content = document()
    column("amount", physicalType="timestamp")(content)
    custom("row_available", "amount + 60 minutes")(content)
    assert "row_available: amount is no timestamp that every row has" in refusal(tmp_path, lambda _: None, content).what


@pytest.mark.parametrize("value", ["2013-03-01", date(2013, 3, 1)], ids=["text", "a day of YAML"])
def test_a_column_may_have_come_later(tmp_path: Path, value: object) -> None:
    content = document()
    since("amount", value)(content)
    found = {column.name: column.since for column in load_contract(written(tmp_path, content)).columns}
    assert found == {"day": None, "code": None, "amount": date(2013, 3, 1), "double_amount": None}


def test_a_timestamp_may_say_its_zone(tmp_path: Path) -> None:
    content = document()
    column("amount", physicalType="timestamp", logicalTypeOptions={"defaultTimezone": "Europe/Berlin"})(content)
    assert load_contract(written(tmp_path, content)).columns[2].zone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("classification", "sensitive"),
    [
        (None, False),
        ("public", False),
        ("internal", False),
        ("pii", True),
        ("confidential", True),
        ("restricted", True),
        ("Public", True),
        ("pubilc", True),
    ],
)
def test_a_column_is_sensitive_unless_its_class_is_known_to_be_open(
    tmp_path: Path, classification: str | None, sensitive: bool
) -> None:
    content = document()
    column("amount", classification=classification or "x")(content)
    if classification is None:
        column("amount", classification=None)(content)
    assert load_contract(written(tmp_path, content)).columns[2].is_sensitive is sensitive


@pytest.mark.parametrize("kind", ["string", "int", "bigint", "double", "boolean", "date", "timestamp", "decimal(10,2)"])
def test_a_column_may_have_every_promised_type(tmp_path: Path, kind: str) -> None:
    content = document()
    column("amount", physicalType=kind)(content)
    assert load_contract(written(tmp_path, content)).columns[2].spark_type == kind


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (column("amount", physicalType="varchar(9)"), ["column amount", "'varchar(9)'", "string", "decimal(p,s)"]),
        (column("amount", physicalType=None), ["column amount", "physicalType", "string"]),
        (column("amount", physicalType="decimal"), ["column amount", "'decimal'", "decimal(p,s)"]),
        (column("amount", logicalTypeOptions={"multipleOf": 5}), ["column amount", "multipleOf", "drop it"]),
        (column("amount", logicalTypeOptions={"minimum": 1, "exclusiveMaximum": 5}), ["amount", "exclusiveMaximum"]),
        (column("amount", physicalType="decimal(39,2)"), ["column amount", "'decimal(39,2)'", "38 digits"]),
        (column("amount", physicalType="decimal(5,6)"), ["column amount", "'decimal(5,6)'", "after the point"]),
        (column("code", logicalTypeOptions={"minimum": 1}), ["column code", "only a number has a minimum"]),
        (column("amount", logicalTypeOptions={"maximum": "9"}), ["column amount", "maximum '9' is no number"]),
        (column("code", logicalTypeOptions={"pattern": "(?P<a>x)"}), ["column code", "(?P", "only Python"]),
        (column("amount", name="Amount"), ["column 'Amount'", "lower-case"]),
        (column("amount", name="2nd"), ["column '2nd'", "starting with a letter"]),
        (column("amount", name="a; drop table b"), ["'a; drop table b'", "lower-case"]),
        (column("amount", name="_amount"), ["'_amount'", "starting with a letter"]),
        *[(column("amount", name=name), [f"column {name}", "rename it"]) for name in RESERVED],
        (without_keys, ["primaryKey: true"]),
        (column("day", primaryKey=None), ["partitioned: true", "key"]),
        (column("day", partitioned=None), ["partitioned: true"]),
        (column("code", partitioned=True), ["one column with partitioned: true"]),
        (custom("load", "changes"), ["load", "'changes' is not built", "append_daily, full"]),
        (custom("load", None), ["load", "append_daily, full"]),
        (of_format("avro"), ["servers[0].format", "'avro' is not built", "csv, json, parquet"]),
        (of_format("CSV"), ["servers[0].format", "'CSV'", "csv, json, parquet"]),
        (since("amount", "spring"), ["column amount: since", "'spring'", "2013-01-01"]),
        (since("amount", None), ["column amount: since", "2013-01-01"]),
        (since("code", "2013-03-01"), ["column code", "drop primaryKey or since"]),
        (since("amount", "2013-03-01", "until"), ["column amount", "until", "drop it"]),
        (column("amount", logicalTypeOptions={"defaultTimezone": "UTC"}), ["column amount", "only a timestamp"]),
        (
            column("amount", physicalType="timestamp", logicalTypeOptions={"defaultTimezone": "Mars/Base"}),
            ["column amount", "'Mars/Base'", "America/New_York"],
        ),
        (
            column("amount", physicalType="timestamp", logicalTypeOptions={"defaultTimezone": ""}),
            ["column amount", "''", "America/New_York"],
        ),
        (custom("starts", datetime(2013, 1, 1, 6)), ["starts", "is no day", "2013-01-01"]),
        (custom("ends", datetime(2013, 1, 1, 6)), ["ends", "is no day", "2013-01-01"]),
        (custom("refs", "stations"), ["refs", "'stations'", "list"]),
        (custom("refs", 5), ["refs", "5", "list"]),
        (custom("due", "noon"), ["due", "'noon'", "D+1 06:00 America/New_York"]),
        (custom("due", None), ["due", "D+1 06:00 America/New_York"]),
        (custom("due", "D+1 25:00 UTC"), ["due", "D+1 25:00 UTC"]),
        (custom("available", "1 06:00 UTC"), ["available", "D+1 06:00 America/New_York"]),
        (custom("available", "D+1 06:00 Mars/Base"), ["available", "Mars/Base"]),
        (custom("available", "D+1 06:00 /etc/passwd"), ["available", "/etc/passwd"]),
        (custom("row_available", "60 minutes after time_hour"), ["row_available", "time_hour + 60 minutes"]),
        (custom("row_available", "seen_at + -5 minutes"), ["row_available", "time_hour + 60 minutes"]),
        (
            custom("row_available", "amount + 60 minutes"),
            ["row_available", "amount is no timestamp that every row has"],
        ),
        (custom("row_available", "nowhere + 60 minutes"), ["row_available", "nowhere", "drop row_available"]),
        (custom("starts", None), ["starts", "2013-01-01"]),
        (custom("starts", "the first"), ["starts", "'the first'", "2013-01-01"]),
        (custom("ends", "2013-02-30"), ["ends", "2013-02-30", "2013-01-01"]),
        (custom("max_quarantined", 5), ["max_quarantined", "0 to 1"]),
        (custom("max_quarantined", "5 %"), ["max_quarantined", "'5 %'", "0 to 1"]),
        (another_table, ["schema", "one table named events"]),
        (two_tables, ["schema", "one table named events"]),
        (without_format, ["format", "csv"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_could_not_be_honoured_is_refused_by_name(tmp_path: Path, spoil: Spoil, named: list[str]) -> None:
    message = str(refusal(tmp_path, spoil))
    assert [words for words in named if words not in message] == []


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (custom("starts", "2013-01-01"), ["starts", "a full feed has no days; drop it"]),
        (custom("ends", "2013-12-31"), ["ends", "a full feed has no days; drop it"]),
        (custom("available", "D+1 06:00 UTC"), ["available", "a full feed has no days; drop it"]),
        (custom("row_available", "seen_at + 5 minutes"), ["row_available", "a full feed has no days; drop it"]),
        (column("day", partitioned=True), ["column day", "drop partitioned"]),
        (custom("due", "in June"), ["due", "'in June'", "D+1 06:00 America/New_York"]),
        (without_keys, ["schema", "primaryKey: true"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_a_full_feed_cannot_have_is_refused_by_name(tmp_path: Path, spoil: Spoil, named: list[str]) -> None:
    message = str(refusal(tmp_path, spoil, full_document()))
    assert [words for words in named if words not in message] == []


def test_every_refusal_ends_with_what_to_correct_in_which_file(tmp_path: Path) -> None:
    assert refusal(tmp_path, of_format("avro")).next_action == f"correct servers[0].format in contracts/{FEED}{SUFFIX}"
    assert refusal(tmp_path, since("amount", "x")).next_action.startswith("correct column amount: since in contracts/")


def test_a_reference_to_no_feed_lists_those_there_are(tmp_path: Path) -> None:
    content = document()
    custom("refs", ["statoins"])(content)
    written(tmp_path, content)
    with pytest.raises(AssayError) as refused:
        load_contracts(tmp_path)
    assert f"{FEED}{SUFFIX}: refs: 'statoins' is no feed; write one of events" in refused.value.what


def test_a_file_that_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / f"{FEED}{SUFFIX}"
    file.write_text("apiVersion: v3.1.0\nkind: [DataContract\nid: x\n")
    with pytest.raises(AssayError) as refused:
        load_contract(file)
    assert file.name in refused.value.what
    assert "line 3" in refused.value.what


def test_a_field_of_the_wrong_kind_is_refused_with_its_place(tmp_path: Path) -> None:
    error = refusal(tmp_path, column("amount", primaryKey="perhaps"))
    assert "primaryKey" in error.what


def test_a_feed_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(AssayError) as refused:
        find_contract("evnets")
    assert ", ".join(load_contracts()) in refused.value.next_action


def doubled(content: dict[str, Any]) -> None:
    content["schema"][0]["properties"].append(dict(columns(content)["amount"]))


def would(why: str, spoil: Spoil, named: str) -> Any:
    """A mistake, and what would come of it if the contract model let it pass."""
    return pytest.param(spoil, named, id=why)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        would("a column twice is accepted; the dict of columns then has it once", doubled, "column amount"),
        would("a zone that is a folder ends in IsADirectoryError", custom("due", "D+1 06:00 America"), "due"),
        would(
            "a pattern that is no expression is accepted; Spark fails on every day",
            column("code", logicalTypeOptions={"pattern": "["}),
            "column code",
        ),
        would(
            "a format is accepted and never checked", column("amount", logicalTypeOptions={"format": "yyyy"}), "format"
        ),
        would("true is taken for a share of 1", custom("max_quarantined", True), "max_quarantined"),
        would("a feed may end before it starts", custom("ends", "2012-12-31"), "ends"),
        would("a day column may be text", column("day", physicalType="string"), "column day"),
        would("a key may be derived", column("day", transformLogic="today"), "column day"),
    ],
)
def test_what_breaks_later_is_refused_now(tmp_path: Path, spoil: Spoil, named: str) -> None:
    assert named in str(refusal(tmp_path, spoil))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / f"{FEED}{SUFFIX}"
    file.write_text("")
    with pytest.raises(AssayError):
        load_contract(file)


@pytest.mark.parametrize(
    ("day", "hour_utc"),
    [
        # New York left standard time on 2013-03-10 at two in the morning, and came back on 2013-11-03 at two.
        (date(2013, 3, 8), 11),
        (date(2013, 3, 9), 10),
        (date(2013, 11, 1), 10),
        (date(2013, 11, 2), 11),
    ],
)
def test_six_in_the_morning_follows_the_clock_on_the_wall(day: date, hour_utc: int) -> None:
    moment = Moment(1, time(6), NEW_YORK)
    assert moment.of(day) == datetime(day.year, day.month, day.day, hour_utc, tzinfo=UTC) + timedelta(days=1)


@given(
    st.sampled_from([date(2013, 3, 10), date(2013, 11, 3)]),
    st.integers(-3, 3),
    st.integers(-2, 2),
    st.times().map(lambda at: at.replace(second=0, microsecond=0, fold=0)),
)
def test_a_moment_is_the_wall_clock_time_over_both_changes_of_clock(
    change: date, around: int, days: int, at: time
) -> None:
    day = change + timedelta(days=around)
    moment = Moment(days, at, NEW_YORK).of(day)
    assert moment.utcoffset() == timedelta(0)
    local = moment.astimezone(NEW_YORK)
    wanted = datetime.combine(day + timedelta(days=days), at)
    in_the_gap = wanted.date() == date(2013, 3, 10) and wanted.hour == 2
    # An hour that the clocks leave out is an hour later on the wall; every other time is what the wall shows.
    assert local.replace(tzinfo=None, fold=0) == wanted + timedelta(hours=in_the_gap)
