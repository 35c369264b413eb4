"""Maintenance on a real lake: the disk stays bounded, and whoever holds a tag, a pin or a name still reads.

An environment of its own, so that only these tests' two tables are kept up. Sixty commits stand for a thousand: with a
maintenance after every ten, what the sixth leaves is what the hundredth would.
"""

import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from foundation.lake import local_path, open_catalog
from foundation.settings import Settings
from orchestrator.assets.maintenance import GROUP, maintenance_assets
from orchestrator.cli.engines import rows

LAYER = "quarantine"
DAYS = [date(2013, 12, number) for number in (20, 21, 22, 23)]
ROUNDS, COMMITS = 6, 10
TEN_DAYS = 10 * 86_400


@pytest.fixture(scope="module")
def own(stack: Settings) -> Iterator[Settings]:
    settings = stack.model_copy(update={"environment": "upkeep"})
    schema = settings.table(LAYER, "x").schema
    open_catalog(settings).create_namespace_if_not_exists(schema)
    list(rows(settings, "clickhouse", "create database if not exists upkeep__lake"))
    yield settings
    catalog = open_catalog(settings)
    for _, table in catalog.list_tables(schema):
        list(rows(settings, "spark", f"drop table lake.{schema}.{table} purge"))
    catalog.drop_namespace(schema)
    list(rows(settings, "clickhouse", "drop database upkeep__lake"))


def keep_up(settings: Settings, config: dict[str, dict[str, Any]], *names: str) -> dict[str, dict[str, Any]]:
    """Runs some maintenance assets as the daemon would, and returns what each said."""
    chosen = [dg.AssetKey([GROUP, name]) for name in names]
    done = dg.materialize(
        maintenance_assets(settings, {}),
        instance=dg.DagsterInstance.ephemeral(),
        selection=chosen,
        run_config={"ops": {f"{GROUP}__{name}": {"config": values} for name, values in config.items()}},
    )
    return {
        key.path[-1]: {name: value.value for name, value in made.metadata.items()}
        for key in chosen
        for made in done.asset_materializations_for_node(f"{GROUP}__{key.path[-1]}")
    }


def files_and_bytes(table: Any) -> tuple[int, int]:
    files = [file for file in Path(local_path(table.location())).rglob("*") if file.is_file()]
    return len(files), sum(file.stat().st_size for file in files)


def make_old(folder: Path, but: tuple[Path, ...] = ()) -> None:
    moment = time.time() - TEN_DAYS
    for file in folder.rglob("*"):
        if file.is_file() and file not in but:
            os.utime(file, (moment, moment))


def test_sixty_commits_leave_what_ten_do_and_tag_pin_and_view_still_read(own: Settings) -> None:
    import pyarrow as pa
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import DateType, LongType, NestedField

    name = own.table(LAYER, "daily")
    schema = Schema(
        NestedField(1, "ds", DateType(), required=False), NestedField(2, "version", LongType(), required=False)
    )
    by_day = PartitionSpec(PartitionField(source_id=1, field_id=1000, transform=IdentityTransform(), name="ds"))
    catalog = open_catalog(own)
    catalog.create_table(name.in_catalog, schema, partition_spec=by_day)

    def write(number: int) -> None:
        """Three days are replaced again and again; a fourth gets six small files a round."""
        table = catalog.load_table(name.in_catalog)
        late = number % COMMITS >= 4
        chosen = DAYS[3] if late else DAYS[number % COMMITS % 3]
        content = pa.table({"ds": [chosen] * 100, "version": pa.array([number] * 100, pa.int64())})
        if late and number % COMMITS > 4:
            table.append(content)
        else:
            table.overwrite(content, overwrite_filter=f"ds = '{chosen}'")

    def said(where: str) -> list[tuple[Any, ...]]:
        question = f"select ds, version, count(*) from {name} {where} group by ds, version order by ds, version"
        return [tuple(row) for row in rows(own, "spark", question)]

    view = "select toDate(ds), version, count() from upkeep__lake.daily group by 1, 2 order by 1, 2"
    left: list[tuple[int, int]] = []
    expected: dict[str, list[tuple[Any, ...]]] = {}
    named = 0
    before: list[tuple[Any, ...]] = []
    for number in range(ROUNDS * COMMITS):
        write(number)
        if number == 13:
            table = catalog.load_table(name.in_catalog)
            table.manage_snapshots().create_tag(table.metadata.current_snapshot_id or 0, "model_x_v1").commit()
            expected["tag"] = said("version as of 'model_x_v1'")
        if number == 17:
            table = catalog.load_table(name.in_catalog)
            named = table.metadata.current_snapshot_id or 0
            at = f"icebergLocal('{local_path(table.location())}', settings iceberg_metadata_file_path = "
            file = table.metadata_location.rsplit("/", 1)[1]
            list(rows(own, "clickhouse", f"create view upkeep__lake.daily as select * from {at}'metadata/{file}')"))
            expected["view"] = [tuple(row) for row in rows(own, "clickhouse", view)]
        if (number + 1) % COMMITS == 0:
            before = said("")
            did = keep_up(own, {"snapshots": {"days": 0, "keep_last": 3}}, "compaction", "snapshots")
            assert did["compaction"]["files_replaced"] >= 6
            assert did["snapshots"]["snapshots_removed"] > 0 and did["snapshots"]["metadata_files_removed"] > 0
            assert did["snapshots"]["bytes_after"] < did["snapshots"]["bytes_before"]
            assert said("") == before, "maintenance changes no row"
            left.append(files_and_bytes(catalog.load_table(name.in_catalog)))
    assert said("version as of 'model_x_v1'") == expected["tag"]
    assert [tuple(row) for row in rows(own, "clickhouse", view)] == expected["view"]
    assert said(f"version as of {named}") == expected["view"], (
        "the snapshot that the view shows is there for other engines"
    )
    # From the third on, tag and view are there: what is left is flat.
    files, sizes = zip(*left[2:], strict=True)
    assert max(files) <= files[0] + 2, left
    # Without a bound on their lists of each other, metadata files alone would make this 10 % more.
    assert max(sizes) <= sizes[0] * 1.05, left
    twice = keep_up(own, {"snapshots": {"days": 0, "keep_last": 3}}, "compaction", "snapshots")
    assert twice["compaction"]["files_replaced"] == 0
    assert said("") == before


def test_orphans_go_when_they_are_old_and_no_file_that_is_known_or_shown_does(own: Settings) -> None:
    """The table is Trino's: it writes locations in another way than Spark, and deletes rows by files of their own."""
    name = own.table(LAYER, "merged")
    made = f"create table {name} with (partitioning = array['month(ds)'], format_version = 2) as "
    days = ", ".join(f"(date '{day}', {number})" for number in range(50) for day in DAYS)
    list(rows(own, "trino", f"{made} select * from (values {days}) as made (ds, version)"))
    for number in range(6):
        list(rows(own, "trino", f"delete from {name} where version = {number}"))
    catalog = open_catalog(own)
    table = catalog.load_table(name.in_catalog)
    folder = Path(local_path(table.location()))
    question = f"select count(*), sum(version) from {name}"
    truth = [tuple(row) for row in rows(own, "trino", question)]

    did = keep_up(own, {}, "compaction")
    assert did["compaction"]["files_replaced"] == 1
    deletes = f'select count(*) from {name.catalog}.{name.schema}."{name.table}$files" where content <> 0'
    assert [tuple(row) for row in rows(own, "trino", deletes)] == [(0,)]
    assert [tuple(row) for row in rows(own, "trino", question)] == truth

    forgotten = folder / "metadata" / "99999-forgotten.metadata.json"
    forgotten.write_bytes(Path(local_path(table.metadata_location)).read_bytes())
    at = f"icebergLocal('{folder}', settings iceberg_metadata_file_path = 'metadata/{forgotten.name}')"
    list(rows(own, "clickhouse", f"create view upkeep__lake.merged as select * from {at}"))
    old, young = folder / "data" / "killed-long-ago.parquet", folder / "data" / "being-written.parquet"
    for file in (old, young):
        file.write_bytes(b"half a file")
    make_old(folder, but=(young,))

    did = keep_up(own, {}, "orphan_files")
    assert did["orphan_files"]["files_removed"] == 1
    assert not old.exists() and young.exists() and forgotten.exists()
    assert [tuple(row) for row in rows(own, "trino", question)] == truth
    assert [
        tuple(row) for row in rows(own, "clickhouse", "select count(), sum(version) from upkeep__lake.merged")
    ] == truth
    list(rows(own, "clickhouse", "drop view upkeep__lake.merged"))
    assert keep_up(own, {}, "orphan_files")["orphan_files"]["files_removed"] == 1, "nobody names it any more"
    assert not forgotten.exists()


def test_without_clickhouse_nothing_expires_as_nobody_knows_what_its_views_show(own: Settings) -> None:
    nobody = own.model_copy(
        update={
            "clickhouse_host_external": "127.0.0.1",
            "clickhouse_port_external": 9,
            "clickhouse_password_external": None,
            "embedded_exports": "",
        }
    )
    catalog = open_catalog(own)
    before = {name: len(catalog.load_table(name).snapshots()) for name in catalog.list_tables("upkeep__quarantine")}
    assert before
    with pytest.raises(Exception, match="ClickHouse does not say which states"):
        keep_up(nobody, {"snapshots": {"days": 0, "keep_last": 1}}, "snapshots")
    assert {name: len(catalog.load_table(name).snapshots()) for name in before} == before
