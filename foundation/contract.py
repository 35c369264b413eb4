"""The contract model: one `contracts/<feed>.odcs.yaml`, Open Data Contract Standard v3, is the only declaration of a feed.

Belongs here: reading a contract into typed facts, and refusing what the platform could not honour. Does not belong here:
what is made of it (tables in spark_assets, assets and sensors in orchestrator).

What Great Expectations shall expect stands in `quality`, as the standard has it (`type: custom`,
`engine: greatExpectations`), and where a column's values are found in other feeds in `relationships`.

What the standard lacks stands in `customProperties`: `load`, `due`, `available`, `row_available`, `starts`, `ends`, `refs`,
`max_quarantined`, and `since` of a column. A property with `transformLogic` is derived: it is not in the vendor's file,
the feed's `transform(df, refs)` makes it of its `transformSourceObjects`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from open_data_contract_standard.model import (
    DataQuality,
    OpenDataContractStandard,
    Relationship,
    SchemaObject,
    SchemaProperty,
)
from pydantic import ValidationError

from foundation.errors import AssayError
from foundation.expectation import Expectation, read_expectation
from foundation.settings import PROJECT

CONTRACTS = PROJECT / "contracts"
SUFFIX = ".odcs.yaml"
# Spark's name for each physical type that a contract may use. Decimal carries its own (precision, scale).
TYPES = ("string", "int", "bigint", "double", "boolean", "date", "timestamp")
NUMBERS = ("int", "bigint", "double")
DECIMAL = re.compile(r"decimal\((\d{1,2}),\s*(\d{1,2})\)")
FORMATS = ("csv", "json", "parquet")
DAILY, FULL = "append_daily", "full"
OPTIONS = ("minimum", "maximum", "pattern", "defaultTimezone")
# Everything else that stands in `classification` is shown to nobody but who asks for it.
OPEN_CLASSES = (None, "public", "internal")
MOMENT = re.compile(r"D([+-]\d{1,3}) (\d{2}):(\d{2}) (\S+)")
ROW_MOMENT = re.compile(r"([a-z][a-z0-9_]*) \+ (\d{1,5}) minutes")
RESERVED = ("source_file", "source_sequence", "source_row", "ds", "reasons", "fate", "corrupt_record")


@dataclass(frozen=True)
class Moment:
    """A time of day some days before or after a partition's day, in a zone: `D+1 06:00 America/New_York`."""

    days: int
    at: time
    zone: ZoneInfo

    def of(self, day: date) -> datetime:
        """This moment for a partition, in UTC."""
        return datetime.combine(day + timedelta(days=self.days), self.at, self.zone).astimezone(UTC)


@dataclass(frozen=True)
class RowMoment:
    """Some minutes after the timestamp that a row carries: `time_hour + 60 minutes`."""

    column: str
    minutes: int


@dataclass(frozen=True)
class Column:
    """A column of Silver. `spark_type` is the type it is cast to; Bronze and quarantine keep it as text. `zone` is that of
    timestamps that name none; `since` the first day whose files must have the column, None if all must;
    `made_of` what a derived one is made of: columns of the feed, or `feed.column` of a reference."""

    name: str
    spark_type: str
    description: str
    required: bool
    key: bool
    derived: bool
    classification: str | None
    allowed: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    pattern: str | None
    zone: str | None
    since: date | None
    made_of: tuple[str, ...] = ()

    @property
    def is_sensitive(self) -> bool:
        """Whether its values stay out of logs, samples and reports."""
        return self.classification not in OPEN_CLASSES


@dataclass(frozen=True)
class Reference:
    """Columns whose values are found in the columns `to` of another feed. A share of the rows may be without, as real feeds
    are: it is watched, and no row is refused for it."""

    columns: tuple[str, ...]
    feed: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class Daily:
    """What a feed with a folder a day has: `column` is the key's day, equal to the `ds` of the file's path. `available` is
    when people may count on the whole day; `row_available` when a single row can be known, None if only with its day."""

    column: str
    starts: date
    ends: date | None
    due: Moment
    available: Moment
    row_available: RowMoment | None


@dataclass(frozen=True)
class Contract:
    """A feed. Of a full feed each delivery is the whole table, and the newest one counts; `next_due` is the moment by
    which the one after a delivery should have come, None if nobody said."""

    feed: str
    file: Path
    description: str
    owner: str
    columns: tuple[Column, ...]
    format: Literal["csv", "json", "parquet"]
    load: Literal["append_daily", "full"]
    days: Daily | None
    next_due: Moment | None
    refs: tuple[str, ...]
    max_quarantined: float
    limitations: str = ""
    references: tuple[Reference, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    version: str = ""

    @property
    def daily(self) -> Daily:
        """What only a daily feed has.

        Raises:
            AssayError: the feed is a full one.
        """
        if self.days is None:
            raise AssayError(f"{self.feed} is a full feed: it has no days", "name no day for it")
        return self.days

    def expects(self, day: date | None) -> bool:
        """Whether the feed has such a day. Daily feeds share their partitions: one may begin later or end earlier."""
        if day is None or self.days is None:
            return True
        return self.days.starts <= day and (self.days.ends is None or day <= self.days.ends)

    @property
    def received(self) -> tuple[Column, ...]:
        """The columns of the vendor's file, in its order."""
        return tuple(column for column in self.columns if not column.derived)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.key)


# libyaml, where PyYAML was built with it: five times as fast, and every command reads all contracts.
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_contract(file: Path) -> Contract:
    """Reads one contract.

    Raises:
        AssayError: naming file, column and what to write instead.
    """
    try:
        document = OpenDataContractStandard(**yaml.load(file.read_text(encoding="utf-8"), YAML))  # noqa: S506
    except TypeError as error:
        raise AssayError(
            f"{file.name} is empty, or no mapping", "write a contract; docs/engineer.md says what stands in one"
        ) from error
    except yaml.YAMLError as error:
        raise AssayError(f"{file.name} is not YAML: {error}", "correct the line that it names") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise AssayError(
            f"{file.name}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
            "see the Open Data Contract Standard v3 for the fields there are",
        ) from error
    feed = file.name.removesuffix(SUFFIX)
    custom = {str(item.property): item.value for item in document.customProperties or []}
    tables = document.schema_ or []
    if len(tables) != 1 or tables[0].name != feed:
        raise _refused(file, "schema", f"must be one table named {feed}")
    columns = tuple(_column(file, item) for item in tables[0].properties or [])
    load = _one_of(file, "load", custom.get("load"), (DAILY, FULL))
    partitioned = [item.name for item in tables[0].properties or [] if item.partitioned]
    for column in columns:
        if [other.name for other in columns].count(column.name) > 1:
            raise _refused(file, f"column {column.name}", "stands there twice; rename or drop one")
        if column.key and column.derived:
            raise _refused(file, f"column {column.name}", "a key must be received: drop primaryKey or transformLogic")
        for source in column.made_of:
            if not (column.derived and _is_received(source, columns, _refs(file, custom.get("refs")))):
                raise _refused(
                    file,
                    f"column {column.name}",
                    f"transformSourceObjects {source!r} is no received column of {feed} or of its refs; "
                    "write such as [amount, customers.country]",
                )
        if column.key and column.since:
            raise _refused(file, f"column {column.name}", "a key must be in every file: drop primaryKey or since")
    if not any(column.key for column in columns):
        raise _refused(file, "schema", "has no key: mark its columns with primaryKey: true")
    days = _daily(file, custom, columns, [str(name) for name in partitioned]) if load == DAILY else None
    if load == FULL:
        for name in ("starts", "ends", "available", "row_available"):
            if custom.get(name) is not None:
                raise _refused(file, name, "a full feed has no days; drop it")
        if partitioned:
            raise _refused(file, f"column {partitioned[0]}", "a full feed has no day column; drop partitioned")
    members = document.team if isinstance(document.team, list) else (document.team.members if document.team else None)
    return Contract(
        feed=feed,
        file=file,
        description=(tables[0].description or (document.description.purpose if document.description else None) or feed),
        owner=(members[0].username if members else None) or "team:data",
        columns=columns,
        format=_one_of(file, "servers[0].format", document.servers[0].format if document.servers else None, FORMATS),
        load=load,
        days=days,
        next_due=_moment(file, "due", custom["due"]) if load == FULL and custom.get("due") is not None else None,
        refs=_refs(file, custom.get("refs")),
        max_quarantined=_fraction(file, custom.get("max_quarantined", 0.05)),
        limitations=(document.description.limitations if document.description else None) or "",
        references=_references(file, feed, tables[0], columns),
        expectations=tuple(_expectations(file, tables[0])),
        version=str(document.version or ""),
    )


@cache
def load_contracts(folder: Path = CONTRACTS) -> Mapping[str, Contract]:
    """Every contract of a folder, by feed, in name order."""
    contracts = {contract.feed: contract for contract in map(load_contract, sorted(folder.glob(f"*{SUFFIX}")))}
    for contract in contracts.values():
        for ref in contract.refs:
            if ref not in contracts:
                raise _refused(contract.file, "refs", f"{ref!r} is no feed; write one of {', '.join(contracts)}")
        for one in contract.references:
            there = [column.name for column in contracts[one.feed].columns] if one.feed in contracts else []
            if not set(one.to) <= set(there):
                named = ", ".join(f"{one.feed}.{column}" for column in one.to if column not in there)
                raise _refused(contract.file, "relationships", f"{named} is no column of a feed; write <feed>.<column>")
    return contracts


def find_contract(feed: str) -> Contract:
    """One feed's contract.

    Raises:
        AssayError: there is no such feed; the message lists those there are.
    """
    contracts = load_contracts()
    if feed not in contracts:
        there = f"use one of {', '.join(contracts)}, or " if contracts else ""
        raise AssayError(f"There is no feed {feed!r}", f"{there}write contracts/{feed}{SUFFIX}")
    return contracts[feed]


def _daily(file: Path, custom: Mapping[str, Any], columns: tuple[Column, ...], partitioned: list[str]) -> Daily:
    if len(partitioned) != 1 or not next(column.key for column in columns if column.name == partitioned[0]):
        raise _refused(
            file, "schema", "a daily feed needs one column with partitioned: true, and it must be part of the key"
        )
    day = partitioned[0]
    if next(column.spark_type for column in columns if column.name == day) != "date":
        raise _refused(file, f"column {day}", "the day of a row must have physicalType: date")
    starts = _date(file, "starts", custom.get("starts"))
    ends = _date(file, "ends", custom["ends"]) if custom.get("ends") is not None else None
    if ends is not None and ends < starts:
        raise _refused(file, "ends", f"{ends} is before starts, {starts}")
    due, available = (_moment(file, name, custom.get(name)) for name in ("due", "available"))
    row_available = None
    if custom.get("row_available") is not None:
        row_available = _row_moment(file, custom["row_available"], columns)
    return Daily(day, starts, ends, due, available, row_available)


def _refused(file: Path, where: str, why: str) -> AssayError:
    return AssayError(f"{file.name}: {where}: {why}", f"correct {where} in contracts/{file.name}")


def _column(file: Path, item: SchemaProperty) -> Column:
    name = item.name or ""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise _refused(file, f"column {name!r}", "use lower-case letters, digits and _, starting with a letter")
    if name in RESERVED or name.startswith("_"):
        raise _refused(file, f"column {name}", f"{', '.join(RESERVED)} are the platform's own; rename it")
    kind = item.physicalType or ""
    decimal = DECIMAL.fullmatch(kind)
    if kind not in TYPES and decimal is None:
        raise _refused(file, f"column {name}", f"physicalType {kind!r}: write one of {', '.join(TYPES)}, decimal(p,s)")
    if decimal and not (1 <= int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1])):
        raise _refused(file, f"column {name}", f"physicalType {kind!r}: at most 38 digits, of them s after the point")
    options: dict[str, Any] = item.logicalTypeOptions or {}
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise _refused(
            file, f"column {name}", f"logicalTypeOptions {', '.join(sorted(unknown))} would not be checked; drop it"
        )
    try:
        re.compile(options.get("pattern") or "")
    except re.error as error:
        raise _refused(
            file, f"column {name}", f"pattern {options['pattern']!r} is no regular expression: {error}"
        ) from error
    if "(?P" in (options.get("pattern") or ""):
        raise _refused(file, f"column {name}", "pattern has (?P, which only Python knows; write (?:")
    for bound in ("minimum", "maximum"):
        if (value := options.get(bound)) is None:
            continue
        if kind not in NUMBERS and decimal is None:
            raise _refused(file, f"column {name}", f"only a number has a {bound}; drop it")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _refused(file, f"column {name}", f"{bound} {value!r} is no number; write one without quotes")
    zone = options.get("defaultTimezone")
    if zone is not None:
        if kind != "timestamp":
            raise _refused(file, f"column {name}", "only a timestamp has a defaultTimezone; drop it")
        _zone(file, f"column {name}", zone)
    own = {str(entry.property): entry.value for entry in item.customProperties or []}
    if set(own) - {"since"}:
        raise _refused(file, f"column {name}", f"customProperties {', '.join(sorted(set(own) - {'since'}))}: drop it")
    return Column(
        name=name,
        spark_type=kind,
        description=item.description or "",
        required=bool(item.required or item.primaryKey),
        key=bool(item.primaryKey),
        derived=item.transformLogic is not None,
        classification=item.classification,
        allowed=tuple(str(entry.value) for entry in item.enum or []),
        minimum=options.get("minimum"),
        maximum=options.get("maximum"),
        pattern=options.get("pattern"),
        zone=zone,
        since=_date(file, f"column {name}: since", own["since"]) if "since" in own else None,
        made_of=tuple(item.transformSourceObjects or ()),
    )


def _is_received(source: str, columns: tuple[Column, ...], refs: tuple[str, ...]) -> bool:
    feed, _, column = source.rpartition(".")
    return feed in refs if feed else any(one.name == column and not one.derived for one in columns)


def _one_of(file: Path, where: str, value: object, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise _refused(file, where, f"{value!r} is not built; write one of {', '.join(allowed)}")
    return value


def _date(file: Path, where: str, value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):  # YAML reads a day with a time as the latter
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise _refused(file, where, f"{value!r} is no day; write it as 2013-01-01") from error


def _moment(file: Path, where: str, value: object) -> Moment:
    match = MOMENT.fullmatch(str(value))
    if not match:
        raise _refused(file, where, f"{value!r} is no moment; write it as 'D+1 06:00 America/New_York'")
    days, hour, minute, zone = match.groups()
    try:
        return Moment(int(days), time(int(hour), int(minute)), _zone(file, where, zone))
    except ValueError as error:
        raise _refused(file, where, f"{value!r}: {error}") from error


def _row_moment(file: Path, value: object, columns: tuple[Column, ...]) -> RowMoment:
    match = ROW_MOMENT.fullmatch(str(value))
    if not match:
        raise _refused(file, "row_available", f"{value!r} is no moment of a row; write it as 'time_hour + 60 minutes'")
    timestamps = [column.name for column in columns if column.spark_type == "timestamp" and column.required]
    if match[1] not in timestamps:
        there = f"write one of {', '.join(timestamps)}" if timestamps else "there is none: drop row_available"
        raise _refused(file, "row_available", f"{match[1]} is no timestamp that every row has; {there}")
    return RowMoment(match[1], int(match[2]))


def _zone(file: Path, where: str, name: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(name))
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise _refused(file, where, f"{name!r} is no time zone; write one such as America/New_York") from error


def _refs(file: Path, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _refused(file, "refs", f"{value!r} is no list; write it as [stations]")
    return tuple(str(ref) for ref in value)


def _references(file: Path, feed: str, table: SchemaObject, columns: tuple[Column, ...]) -> tuple[Reference, ...]:
    """A column's `relationships` name the column in the other feed; the table's, which are of several columns, both sides."""
    given = [(one, [f"{feed}.{item.name}"]) for item in table.properties or [] for one in item.relationships or []]
    given += [
        (one, one.from_ if isinstance(one.from_, list) else [one.from_ or ""]) for one in table.relationships or []
    ]
    return tuple(_reference(file, feed, one, sources, columns) for one, sources in given)


def _reference(file: Path, feed: str, one: Relationship, sources: list[str], columns: tuple[Column, ...]) -> Reference:
    targets = one.to if isinstance(one.to, list) else [one.to or ""]
    own = [source.rpartition(".") for source in sources]
    others = [target.rpartition(".") for target in targets]
    known = {column.name for column in columns}
    if not all(who in ("", feed) and name in known for who, _, name in own):
        raise _refused(file, "relationships", f"from {', '.join(sources)}: write columns of {feed}, as [{feed}.code]")
    if len(own) != len(others) or len({who for who, _, _ in others}) != 1 or not others[0][0]:
        raise _refused(
            file,
            "relationships",
            f"to {', '.join(targets)}: write as many columns of one other feed, as customers.code",
        )
    return Reference(tuple(name for *_, name in own), others[0][0], tuple(name for *_, name in others))


def _expectations(file: Path, table: SchemaObject) -> Iterator[Expectation]:
    """What stands in `quality`, of the table and of its columns."""
    given: list[tuple[DataQuality, str | None]] = [(one, None) for one in table.quality or []]
    given += [(one, item.name) for item in table.properties or [] for one in item.quality or []]
    for rule, column in given:
        where = f"quality of {column or table.name}"
        if rule.type != "custom" or rule.engine != "greatExpectations":
            raise _refused(
                file,
                where,
                f"type {rule.type!r}, engine {rule.engine!r}: only custom and greatExpectations are looked at",
            )
        value = rule.implementation
        if isinstance(value, Mapping) and rule.severity is not None:
            value = {"severity": rule.severity, **value}
        found = read_expectation(file, where, value)
        yield found if column is None else replace(found, kwargs={"column": column, **found.kwargs})


def _fraction(file: Path, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _refused(file, "max_quarantined", f"{value!r} is no share; write a number from 0 to 1")
    return float(value)
