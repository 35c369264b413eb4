"""Expectations: days are compared with the days before them, a bad one is named and its neighbours are not, and nobody sees
what they may not."""

import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pyarrow as pa
import pytest

from foundation.contract import Contract, Reference, load_contract, load_contracts
from foundation.errors import AssayError
from foundation.expectation import ERROR, PROFILE, ROWS, WARN, Expectation
from foundation.lake import current_snapshot_id, load_table, open_catalog
from foundation.settings import Settings
from orchestrator.assets import expectations as checks
from orchestrator.assets.lake import lake_assets
from orchestrator.partitions import daily_partitions
from quality import page, validate
from quality.profile import Rows, Subject, lake_rows, profile, reference_rows
from quality.suites import subject_of_feed, subject_of_model
from quality.validate import Report, judge, say
from spark_assets.publish import PartOutcome, SilverWrite
from tests.check_events import evaluations_of
from tests.unit.feeds import document, written

FIRST = date(2013, 1, 1)
DAYS = [FIRST + timedelta(number) for number in range(42)]
BAD, LAST = DAYS[35], DAYS[-1]
SECRET = "secret-7f3a"
BETWEEN = "expect_column_values_to_be_between"
PLACES = Reference(("place",), "places", ("name",))
THERE = pa.table({"name": ["here", "there"]})
TABLE = Subject(
    "gold",
    "orders",
    "day",
    "day",
    required=frozenset({"code"}),
    compared=frozenset({"amount", "kind"}),
    references=(PLACES,),
    declared_in="orders.yml",
)
SCHEMA = pa.schema(
    {
        "day": pa.date32(),
        "code": pa.string(),
        "amount": pa.float64(),
        "kind": pa.string(),
        "place": pa.string(),
        "note": pa.string(),
    }
)
Row = dict[str, Any]


def orders(seed: int = 1, days: Sequence[date] = DAYS) -> list[Row]:
    """Days of a shop: fewer orders at weekends, a few gaps, a few places that nobody knows. Who asks may change them."""
    return [dict(row) for row in _orders(seed, tuple(days))]


@cache
def _orders(seed: int, days: Sequence[date]) -> list[Row]:
    chance = random.Random(seed)
    return [
        {
            "day": day,
            "code": f"{day}-{number}",
            "amount": chance.gauss(100, 15),
            "kind": chance.choices(["a", "b", "c"], [6, 3, 1])[0],
            "place": chance.choices(["here", "there", "nowhere", None], [50, 40, 5, 5])[0],
            "note": None if chance.random() < 0.1 else "text",
        }
        for day in days
        for number in range((40 if day.weekday() > 4 else 100) + chance.randrange(10))
    ]


def table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def judged(settings: Settings, rows: Sequence[Row], days: Sequence[date], subject: Subject = TABLE) -> Report:
    return judge(settings, subject, Rows(table(rows), 7), days, {PLACES: Rows(THERE, 8)})


def failed(report: Report) -> dict[date | None, list[str]]:
    """What each part failed, such as `warn null_rise_note`."""
    return {
        part: [f"{one.expectation.severity} {one.expectation.kwargs['column']}" for one in found.failed]
        for part, found in report.parts.items()
        if found.failed
    }


# The profile, against a slow one that a person can follow.


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between the values beside it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def slow_profile(rows: Sequence[Row], day: date) -> dict[str, float]:
    of = {one: [row for row in rows if row["day"] == one] for one in {row["day"] for row in rows}}
    before = [one for one in sorted(of) if day - timedelta(28) <= one < day]
    today = of[day]

    def nulls(some: Sequence[Row]) -> float:
        return sum(row["note"] is None for row in some) / len(some)

    def match(some: Sequence[Row]) -> float:
        named = [row["place"] for row in some if row["place"] is not None]
        return sum(place in ("here", "there") for place in named) / len(named)

    def amounts(some: Sequence[Row]) -> list[float]:
        return [row["amount"] for row in some]

    spread = statistics.median([quantile(amounts(of[d]), 0.9) - quantile(amounts(of[d]), 0.1) for d in before])
    shifts = []
    for measure in (statistics.fmean, statistics.median):
        past = [measure(amounts(of[d])) for d in before]
        low, high = quantile(past, 0.04), quantile(past, 0.96)
        now = measure(amounts(today))
        shifts.append(max(now - high, low - now, 0) / max(high - low, 0.1 * spread))
    p, q = Counter(row["kind"] for row in today), Counter(row["kind"] for d in before for row in of[d])
    n, m, values = sum(p.values()), sum(q.values()), set(p) | set(q)
    divergence = 0.0
    for value in values:
        a, b = p[value] / n, q[value] / m
        divergence += sum(x * math.log2(2 * x / (a + b)) for x in (a, b) if x) / 2
    return {
        "rows": len(today),
        "rows_ratio": len(today) / statistics.median([len(of[d]) for d in before if d.weekday() == day.weekday()]),
        "null_share_note": nulls(today),
        "null_rise_note": nulls(today) - quantile([nulls(of[d]) for d in before], 0.96),
        "mean_amount": statistics.fmean(amounts(today)),
        "p90_amount": quantile(amounts(today), 0.9),
        "shift_amount": max(shifts),
        "distance_kind": max(0, divergence - (len(values) - 1) * (1 / n + 1 / m) / (8 * math.log(2))),
        "match_place": match(today),
        "match_drop_place": quantile([match(of[d]) for d in before], 0.04) - match(today),
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_profile_says_what_counting_by_hand_says(seed: int) -> None:
    rows = orders(seed)
    if seed % 2:  # a day without a row, one of another size and kind
        rows = [row for row in rows if row["day"] != DAYS[20] and not (row["day"] == DAYS[30] and row["amount"] > 95)]
        rows = [{**row, "kind": "c"} if row["day"] == DAYS[31] else row for row in rows]
    asked = DAYS[28:]
    found = profile(table(rows), TABLE, asked, {PLACES: THERE}).set_index("day")
    assert list(found.index) == [str(day) for day in asked]
    for day in asked:
        for name, value in slow_profile(rows, day).items():
            assert found.loc[str(day), name] == pytest.approx(value, abs=1e-9), (day, name)


def test_a_range_says_of_each_day_what_the_day_alone_says() -> None:
    rows = table(orders())
    together = profile(rows, TABLE, DAYS, {PLACES: THERE}).set_index("day")
    for day in DAYS[::6]:
        alone = profile(rows, TABLE, [day], {PLACES: THERE}).set_index("day")
        assert together.loc[[str(day)]].compare(alone).empty


def test_a_day_with_less_than_14_days_before_it_is_not_compared(settings: Settings) -> None:
    rows = [row for row in orders() if row["day"] < DAYS[13] or row["day"] == DAYS[13]]
    report = judged(settings, rows, DAYS[:14])
    assert report.page is None and not failed(report)
    assert all(not one.passed and not one.failed for one in report.parts.values())
    sparse = [row for row in orders() if row["day"].day % 3 == 0 or row["day"] == BAD]
    assert math.isnan(profile(table(sparse), TABLE, [BAD]).iloc[0]["rows_ratio"]), "10 of 28 days have rows"
    whole = judged(settings, orders(), [DAYS[13], DAYS[14]])
    assert not whole.parts[DAYS[13]].passed and whole.parts[DAYS[14]].passed


# Each generated kind, planted.


def test_days_as_usual_are_as_expected(settings: Settings) -> None:
    report = judged(settings, orders(), DAYS)
    assert not failed(report) and not report.errored
    assert report.parts[BAD].passed == 9  # volume twice, nulls of four columns, shift, distance, match


def kept(share: float) -> Callable[[Row, random.Random], Row | None]:
    return lambda row, chance: row if chance.random() < share else None


PLANTED: Mapping[str, tuple[Callable[[Row, random.Random], Row | None], list[str]]] = {
    "volume": (kept(0.1), ["error rows_ratio", "warn rows_ratio"]),
    "less volume": (kept(0.4), ["warn rows_ratio"]),
    "nulls": (lambda row, chance: {**row, "note": None} if chance.random() < 0.6 else row, ["warn null_rise_note"]),
    "another unit": (lambda row, _: {**row, "amount": row["amount"] * 1.6}, ["warn shift_amount"]),
    "other values": (lambda row, _: {**row, "kind": "c"}, ["warn distance_kind"]),
    "strangers": (
        lambda row, chance: {**row, "place": "nowhere"} if row["place"] and chance.random() < 0.5 else row,
        ["warn match_drop_place"],
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_day_is_named_and_its_neighbours_are_not(settings: Settings, what: str) -> None:
    spoil, expected = PLANTED[what]
    chance = random.Random(3)
    rows = [spoil(row, chance) if row["day"] == BAD else row for row in orders()]
    report = judged(settings, [row for row in rows if row], DAYS)
    assert failed(report) == {BAD: expected}
    assert set(report.refusals()) == ({BAD} if "error rows_ratio" in expected else set())


def test_a_day_that_was_sent_six_times_over_is_refused_and_an_empty_one_too(settings: Settings) -> None:
    rows = orders()
    many = [*rows, *[row for row in rows if row["day"] == BAD] * 5]
    assert failed(judged(settings, many, DAYS)) == {BAD: ["error rows_ratio", "warn rows_ratio"]}
    none = [row for row in rows if row["day"] != BAD]
    assert failed(judged(settings, none, DAYS)) == {BAD: ["error rows_ratio", "warn rows_ratio"]}


def test_a_refusal_says_what_was_found_and_what_to_do(settings: Settings) -> None:
    rows = [row for row in orders() if row["day"] != BAD or row["code"].endswith("7")]
    error = judged(settings, rows, DAYS).refusals()[BAD]
    assert "gold/orders 2013-02-05 is not as expected: rows_ratio 0.2 to 5.0: it is 0.098" in error.what
    assert "orders.yml" in error.next_action and ".html" in error.next_action


def test_a_hand_written_one_takes_the_place_of_the_generated_ones_of_its_column(settings: Settings) -> None:
    own = Expectation(BETWEEN, {"column": "rows_ratio", "min_value": 0.05}, ERROR, PROFILE)
    chance = random.Random(3)
    rows = [row for row in orders() if row["day"] != BAD or chance.random() < 0.1]
    assert not failed(judged(settings, rows, DAYS, replace(TABLE, expectations=(own,))))


# Hand-written ones.


def test_rows_are_judged_day_by_day(settings: Settings) -> None:
    some = Expectation(BETWEEN, {"column": "amount", "max_value": 500, "mostly": 0.9}, ERROR, ROWS)
    none = Expectation(
        "expect_column_values_to_be_in_set", {"column": "kind", "value_set": ["a", "b", "c"]}, WARN, ROWS
    )
    # All rows of one day break it, and a twentieth of the next day's: of the range together too few to be seen.
    rows = [
        {**row, "amount": 900.0}
        if row["day"] == BAD or (row["day"] == DAYS[36] and row["code"].endswith("-3"))
        else row
        for row in orders()
    ]
    rows[-1] = {**rows[-1], "kind": "z"}
    subject = replace(TABLE, expectations=(some, none), generated=False)
    report = judged(settings, rows, DAYS, subject)
    assert failed(report) == {BAD: ["error amount"], LAST: ["warn kind"]}
    (finding,) = report.parts[LAST].failed
    assert finding.found.startswith("1 of ") and finding.samples == ("z",)
    assert report.parts[DAYS[0]].passed == 2, "rows need no history"


def test_what_could_not_be_judged_is_not_what_failed(settings: Settings) -> None:
    wrong = (
        Expectation(BETWEEN, {"column": "no_such_column", "max_value": 1}, ERROR, ROWS),
        Expectation(BETWEEN, {"column": "mean_nothing", "max_value": 1}, ERROR, PROFILE),
        Expectation("expect_the_moon", {"column": "amount"}, ERROR, ROWS),
        Expectation("expect_column_mean_to_be_between", {"column": "amount", "max_value": 1}, ERROR, ROWS),
        Expectation(BETWEEN, {"column": "kind", "max_value": 1}, ERROR, ROWS),
    )
    fails = Expectation("expect_column_values_to_not_be_null", {"column": "note"}, ERROR, ROWS)
    report = judged(settings, orders(), [BAD], replace(TABLE, expectations=(*wrong, fails)))
    assert set(report.errored) == set(wrong)
    assert failed(report) == {BAD: ["error note"]}
    assert "no_such_column" in report.errored[wrong[0]]
    assert "expect it of a column of the profile" in report.errored[wrong[3]]
    only = judged(settings, orders(), [BAD], replace(TABLE, expectations=wrong))
    assert not only.refusals(), "nobody knows that the data is wrong"


@pytest.mark.parametrize(
    "spoilt",
    [
        Expectation("expect_column_values_to_match_regex", {"column": "note", "regex": "^x"}, ERROR, ROWS),
        Expectation(BETWEEN, {"column": "note", "max_value": 3}, ERROR, ROWS),
        Expectation("expect_column_values_to_be_dateutil_parseable", {"column": "note"}, ERROR, ROWS),
        Expectation("expect_column_pair_values_to_be_equal", {"column_A": "note", "column_B": "code"}, ERROR, ROWS),
        Expectation("expect_compound_columns_to_be_unique", {"column_list": ["note", "day"]}, ERROR, ROWS),
        Expectation(BETWEEN, {"column": "mean_amount", "max_value": 1}, ERROR, PROFILE),
        Expectation(
            BETWEEN, {"column": "amount", "max_value": 0, "row_condition": 'col("note").notnull()'}, ERROR, ROWS
        ),
    ],
    ids=lambda one: f"{one.type} of {one.of}",
)
def test_no_value_of_a_classified_column_is_shown(
    settings: Settings, spoilt: Expectation, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "note": f"{SECRET}-{row['code'][-1]}", "amount": 4711.25} for row in orders()]
    subject = replace(TABLE, expectations=(spoilt,), sensitive=frozenset({"note", "amount"}))
    report = judged(settings, rows, DAYS[-3:], subject)
    assert report.errored or report.parts[LAST].failed
    assert report.page is not None
    metadata = checks._metadata(list(report.parts.values()), report)
    shown = [report.page.read_text(), repr(report), repr(metadata), *map(str, report.refusals().values())]
    shown += [*capfd.readouterr(), caplog.text]
    for text in shown:
        assert SECRET not in text and "4711.25" not in text and "4711" not in text
    assert not [file for file in settings.home.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def test_what_an_error_says_is_withheld_too_where_a_column_is_classified() -> None:
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

    for sensitive in (frozenset({"note"}), frozenset[str]()):
        subject = replace(TABLE, sensitive=sensitive)
        raised = {"raised_exception": True, "exception_message": SECRET, "exception_traceback": SECRET}
        for info in (raised, {"a metric": raised}):
            result = ExpectationValidationResult(success=False, exception_info=info)
            said = [validate._mask_exception(subject, result), str(result.exception_info)]
            assert (SECRET in said[0]) is (SECRET in said[1]) is not bool(sensitive)
        assert (SECRET in validate._why(subject, ValueError(SECRET))) is not bool(sensitive)


def test_samples_are_few_and_the_page_is_one_of_a_bounded_number(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAGES", 3)  # of 20
    unknown = Expectation("expect_column_values_to_be_in_set", {"column": "code", "value_set": []}, ERROR, ROWS)
    subject = replace(TABLE, expectations=(unknown,), generated=False)
    report = [judged(settings, orders(), [LAST], subject) for _ in range(page.PAGES + 2)][-1]
    (finding,) = report.parts[LAST].failed
    assert len(finding.samples) == 5
    assert report.page is not None
    assert len(list(report.page.parent.iterdir())) == page.PAGES
    text = report.page.read_text()
    assert "gold/orders" in text and 'href="../' not in text and "<script" not in text and "http" not in text


# From contracts and models.


def test_a_contract_says_what_is_expected_and_where_its_values_are_found(tmp_path: Path) -> None:
    content = document()
    (events,) = content["schema"]
    events["quality"] = [_rule({"type": BETWEEN, "of": "profile", "kwargs": {"column": "rows", "min_value": 3}})]
    events["properties"][2]["quality"] = [{**_rule({"type": BETWEEN, "kwargs": {"max_value": 9}}), "severity": "warn"}]
    events["properties"][1] |= {"relationships": [{"to": "codes.code"}], "classification": "pii"}
    events["relationships"] = [{"from": ["events.day", "events.code"], "to": ["plan.on", "plan.code"]}]
    contract = load_contract(written(tmp_path, content))
    assert contract.expectations == (
        Expectation(BETWEEN, {"column": "rows", "min_value": 3}, ERROR, PROFILE),
        Expectation(BETWEEN, {"column": "amount", "max_value": 9}, WARN, ROWS),
    )
    assert contract.references == (
        Reference(("code",), "codes", ("code",)),
        Reference(("day", "code"), "plan", ("on", "code")),
    )
    subject = subject_of_feed(contract)
    assert subject.sensitive == {"code"} and subject.compared == {"amount", "double_amount"}


def _rule(implementation: object) -> dict[str, Any]:
    return {"type": "custom", "engine": "greatExpectations", "implementation": implementation}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: t.update(quality=[{"type": "text", "description": "good"}]), "only custom and greatExpectations"),
        (lambda t: t.update(quality=[_rule({"kwargs": {}})]), "has no type"),
        (lambda t: t.update(quality=[_rule({"type": "x", "severity": "fatal"})]), "write error or warn"),
        (lambda t: t.update(quality=[_rule({"type": "x", "of": "days"})]), "write rows or profile"),
        (lambda t: t.update(quality=[_rule({"type": "x", "colum": "a"})]), "colum would not be looked at"),
        (lambda t: t["properties"][1].update(relationships=[{"to": "code"}]), "as customers.code"),
        (lambda t: t.update(relationships=[{"from": ["events.nope"], "to": ["a.b"]}]), "write columns of events"),
        (lambda t: t.update(relationships=[{"from": ["code", "day"], "to": ["a.b"]}]), "as many columns"),
    ],
)
def test_what_a_contract_cannot_mean_is_refused(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], says: str
) -> None:
    content = document()
    spoil(content["schema"][0])
    with pytest.raises(AssayError, match=says):
        load_contract(written(tmp_path, content))


def test_a_relationship_to_no_feed_is_refused(tmp_path: Path) -> None:
    content = document()
    content["schema"][0]["properties"][1]["relationships"] = [{"to": "codes.code"}]
    written(tmp_path, content)
    with pytest.raises(AssayError, match=r"codes\.code is no column of a feed"):
        load_contracts(tmp_path)


def test_a_model_is_judged_if_it_is_daily_or_says_so(contract: Contract) -> None:
    def node(name: str, schema: str, parents: Sequence[str] = (), **config: Any) -> dict[str, Any]:
        columns = {"code": {"constraints": [{"type": "not_null"}]}, "amount": {}}
        return {
            "name": name,
            "columns": columns,
            "config": {"schema": schema, **config},
            "original_file_path": f"models/{name}.sql",
            "patch_path": "assay://models/all.yml",
            "depends_on": {"nodes": list(parents)},
        }

    expectation = {"type": BETWEEN, "kwargs": {"column": "amount", "max_value": 3}, "severity": "warn"}
    manifest = {
        "sources": {"source.s": {"name": contract.feed}},
        "nodes": {
            "daily": node("daily", "gold", ["source.s"], range_column="day"),
            "child": node("child", "gold", ["daily"], range_column="day"),
            "mart": node("mart", "warehouse", range_column="month", meta={"expectations": [expectation]}),
            "quiet": node("quiet", "warehouse", range_column="month"),
        },
    }
    found = {name: subject_of_model(manifest, name, {contract.feed: contract}) for name in manifest["nodes"]}
    child, mart = found["child"], found["mart"]
    assert child and child.generated and child.grain == "day" and child.feeds == (contract.feed,)
    assert child.required == {"code"} and child.declared_in == "dbt_project/models/all.yml"
    assert mart and mart.grain == "month" and not mart.generated and mart.expectations[0].severity == WARN
    assert found["quiet"] is None
    bad = node("bad", "gold", meta={"expectations": ["rows"]})
    with pytest.raises(AssayError, match="expectations of bad"):
        subject_of_model({"sources": {}, "nodes": {"bad": bad}}, "bad", {})


# On a lake, without an engine.


@pytest.fixture
def lake(settings: Settings) -> Settings:
    settings.home.mkdir(parents=True)
    catalog = open_catalog(settings)
    catalog.create_namespace("gold")
    catalog.create_namespace("silver")
    return settings


def write(settings: Settings, name: str, rows: pa.Table) -> int:
    """Replaces a table's rows, and returns the snapshot that has them."""
    made = open_catalog(settings).create_table_if_not_exists(name, schema=rows.schema)
    made.overwrite(rows)
    found = current_snapshot_id(load_table(settings, *name.split(".")))
    assert found
    return found


def test_exactly_the_named_snapshot_is_judged(lake: Settings) -> None:
    bad = [row for row in orders() if row["day"] != BAD or row["code"].endswith("-7")]
    first = write(lake, "gold.orders", table(bad))
    second = write(lake, "gold.orders", table(orders()))
    write(lake, "silver.places", THERE)
    references = reference_rows(lake, TABLE, [BAD])
    for snapshot, found in ((first, [BAD]), (second, []), (None, [])):
        rows = lake_rows(lake, TABLE, [BAD], snapshot)
        assert rows.snapshot_id == (snapshot or second)
        assert min(rows.table["day"].to_pylist()) == BAD - timedelta(28)
        report = judge(lake, TABLE, rows, [BAD], references)
        assert list(report.refusals()) == found
        assert report.references == {"place": current_snapshot_id(load_table(lake, "silver", "places"))}


def test_a_branch_is_judged_with_the_days_that_readers_see(lake: Settings) -> None:
    """As Silver is, before it is published: the branch's snapshot has the days of `main`, and the new one."""
    write(lake, "gold.orders", table([row for row in orders() if row["day"] != BAD]))
    loaded = load_table(lake, "gold", "orders")
    loaded.manage_snapshots().create_branch(current_snapshot_id(loaded) or 0, "audit").commit()
    loaded.append(table([row for row in orders() if row["day"] == BAD][:5]), branch="audit")
    fresh = load_table(lake, "gold", "orders")
    branch = fresh.refs()["audit"].snapshot_id
    assert branch != current_snapshot_id(fresh)
    report = judge(lake, TABLE, lake_rows(lake, TABLE, [BAD], branch), [BAD])
    assert list(report.refusals()) == [BAD]


def test_a_feed_that_never_came_leaves_its_match_unjudged(lake: Settings) -> None:
    write(lake, "gold.orders", table(orders()))
    assert reference_rows(lake, TABLE, [BAD]) == {}
    report = judge(lake, TABLE, lake_rows(lake, TABLE, [BAD], None), [BAD])
    assert not failed(report) and report.parts[BAD].passed == 8


def test_a_reference_of_the_same_day_is_not_judged_before_that_day_has_come(lake: Settings) -> None:
    plan = Reference(("day", "code"), "plan", ("on", "code"))
    rows = orders()
    known = [row for row in rows if row["day"] != LAST and not (row["day"] == BAD and row["code"].endswith("1"))]
    write(lake, "gold.orders", table(rows))
    write(lake, "silver.plan", pa.table({"on": [row["day"] for row in known], "code": [row["code"] for row in known]}))
    subject = replace(TABLE, references=(plan,))
    references = reference_rows(lake, subject, DAYS)
    found = profile(table(rows), subject, DAYS, {one: two.table for one, two in references.items()}).set_index("day")
    share = sum(not row["code"].endswith("1") for row in rows if row["day"] == BAD) / len(
        [row for row in rows if row["day"] == BAD]
    )
    assert found.loc[str(BAD), "match_plan"] == pytest.approx(share)
    assert found.loc[str(DAYS[3]), "match_plan"] == 1
    assert math.isnan(found.loc[str(LAST), "match_plan"])


def test_a_whole_table_is_compared_with_what_readers_see(lake: Settings) -> None:
    whole = replace(TABLE, part=None, grain="whole", references=())
    new = write(lake, "gold.orders", table(orders()[:300]))
    write(lake, "gold.orders", table(orders()))
    report = judge(lake, whole, lake_rows(lake, whole, [None], new), [None])
    assert failed(report) == {None: ["error rows_ratio", "warn rows_ratio"]}
    write(lake, "gold.orders", table(orders()[:400]))
    assert not failed(judge(lake, whole, lake_rows(lake, whole, [None], new), [None]))


# In Dagster.

DAILY = dg.DailyPartitionsDefinition(str(FIRST), end_date=str(LAST + timedelta(1)))
ORDERS = dg.AssetKey(["gold", "orders"])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


def run_check(
    instance: dg.DagsterInstance, settings: Settings, subject: Subject, first: date, last: date
) -> dg.ExecuteInProcessResult:
    """Makes the table and checks it in one run of a range, and something that is made of it."""

    @dg.asset(key=ORDERS, partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
    def made(context: dg.AssetExecutionContext) -> None:
        snapshot = current_snapshot_id(load_table(settings, "gold", "orders"))
        for day in context.partition_keys:
            context.add_asset_metadata({"snapshot_id": str(snapshot)}, asset_key=ORDERS, partition_key=day)

    @dg.asset(deps=[ORDERS], partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
    def downstream() -> None: ...

    definitions = dg.Definitions(assets=[made, downstream], asset_checks=[checks._check(settings, {}, subject)])
    tags = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        tags=tags,
        raise_on_error=False,
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def test_each_day_of_a_range_has_its_own_verdict_and_a_broken_one_stops_what_follows(
    lake: Settings, instance: dg.DagsterInstance
) -> None:
    rows = [row for row in orders() if row["day"] != BAD or row["code"].endswith("-7")]
    rows = [{**row, "note": None} if row["day"] == DAYS[38] else row for row in rows]
    write(lake, "gold.orders", table(rows))
    result = run_check(instance, lake, TABLE, DAYS[33], LAST)
    found = evaluations_of(instance, result, checks.EXPECTATIONS)
    days = {str(day) for day in DAYS[33:]}
    assert set(found) == {*days, None}
    broken, warned = found[str(BAD)], found[str(DAYS[38])]
    assert not broken.passed and broken.severity == dg.AssetCheckSeverity.ERROR
    assert not warned.passed and warned.severity == dg.AssetCheckSeverity.WARN
    assert all(found[day].passed for day in days - {str(BAD), str(DAYS[38])})
    (row,) = [
        one
        for one in cast("dg.TableMetadataValue", broken.metadata["findings"]).records
        if one.data["severity"] == "error"
    ]
    assert row.data["partition"] == str(BAD) and "rows_ratio" in str(row.data["expectation"])
    assert Path(str(broken.metadata["page"].value)).exists() and broken.metadata["snapshot_id"]
    assert not found[None].passed
    (failure,) = [one for one in result.all_events if one.is_step_failure]
    assert str(BAD) in str(failure.step_failure_data.user_failure_data)
    assert str(DAYS[38]) not in str(failure.step_failure_data.user_failure_data)
    assert "downstream" not in [one.step_key for one in result.all_events if one.is_step_success]


def test_a_warning_stops_nothing(lake: Settings, instance: dg.DagsterInstance) -> None:
    write(lake, "gold.orders", table([{**row, "note": None} if row["day"] == BAD else row for row in orders()]))
    result = run_check(instance, lake, TABLE, BAD, LAST)
    assert result.success and evaluations_of(instance, result, checks.EXPECTATIONS)[None].passed
    assert not evaluations_of(instance, result, checks.EXPECTATIONS)[str(BAD)].passed


def test_each_day_of_a_month_has_the_months_verdict(lake: Settings, instance: dg.DagsterInstance) -> None:
    rows = pa.table(
        {"month": pa.array([date(2013, 1, 1), date(2013, 2, 1)], pa.date32()), "share": pa.array([0.5, 0.1])}
    )
    write(lake, "gold.orders", rows)
    own = Expectation(BETWEEN, {"column": "mean_share", "min_value": 0.3}, ERROR, PROFILE)
    subject = Subject("gold", "orders", "month", "month", expectations=(own,), generated=False)
    found = evaluations_of(
        instance, run_check(instance, lake, subject, date(2013, 1, 30), date(2013, 2, 2)), checks.EXPECTATIONS
    )
    assert {day: one.passed for day, one in found.items() if day} == {
        "2013-01-30": True,
        "2013-01-31": True,
        "2013-02-01": False,
        "2013-02-02": False,
    }


def test_silver_is_judged_before_it_is_published(
    lake: Settings, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark's part is another's: what it wrote to the branch is there, and what it publishes is what is not refused."""
    content = document()
    content["schema"][0]["properties"] = [
        {"name": "day", "physicalType": "date", "primaryKey": True, "partitioned": True},
        {"name": "code", "physicalType": "string", "primaryKey": True},
        {"name": "amount", "physicalType": "double"},
    ]
    contract = load_contract(written(tmp_path, content))
    rows = table([row for row in orders() if row["day"] != BAD or row["code"].endswith("-7")])
    snapshot = write(lake, "silver.events", rows.select(["day", "code", "amount"]))

    def refine(_: Any, __: Any, days: Sequence[date], ___: Any, asked: Any) -> SilverWrite:
        parts: dict[date | None, PartOutcome] = {day: PartOutcome(day) for day in days}
        for day, error in asked(snapshot, [day for day in days if day != DAYS[34]]).items():
            parts[day].error = error
        parts[DAYS[34]].error = AssayError("its file is bad", "send another")
        return SilverWrite(parts, snapshot, 1, 1, {})

    monkeypatch.setattr("spark_assets.publish.refine", refine)
    definitions = dg.Definitions(assets=lake_assets(lake, contract, daily_partitions({"events": contract})))
    silver = dg.AssetKey(["silver", "events"])
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[silver],
        tags={"dagster/asset_partition_range_start": str(DAYS[33]), "dagster/asset_partition_range_end": str(DAYS[37])},
        raise_on_error=False,
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    found = evaluations_of(instance, result, checks.EXPECTATIONS)
    passed = {day: one.passed for day, one in found.items()}
    assert passed.pop(None), "the table is right, as the day was not published"
    assert passed == {str(day): day != BAD for day in DAYS[33:38] if day != DAYS[34]}
    made = instance.get_materialized_partitions(silver)
    assert made == {str(DAYS[33]), str(DAYS[36]), str(DAYS[37])}


def test_an_expectation_is_said_in_one_line() -> None:
    assert say(Expectation(BETWEEN, {"column": "rows", "min_value": 3})) == "rows at least 3"
    assert say(Expectation("expect_column_values_to_match_regex", {"column": "a", "regex": "x"})) == (
        "a match_regex, regex x"
    )
