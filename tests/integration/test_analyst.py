"""The analyst's loop on real engines, without Dagster: their own schemas, what is not there from the shared ones, and no way
to write elsewhere."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pytest

from foundation.contract import find_contract
from foundation.errors import AssayError
from foundation.lake import load_table, pin_published
from foundation.settings import PROJECT, Settings
from intake import vendor
from orchestrator.cli.engines import rows
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from tests.conftest import SHELL, Assay
from tests.integration.airports import airports_in_silver  # noqa: F401 - a fixture
from tests.integration.dbt_here import assay_dbt_here

pytestmark = pytest.mark.usefixtures("airports_in_silver")

DAYS = [date(2013, 10, number) for number in (8, 9)]
RANGE = "2013-10-08..2013-10-09"
ANA = {"ASSAY_USER": "ana"}


@pytest.fixture(scope="module", autouse=True)
def shared_tables(stack: Settings) -> None:
    """Two days, Silver to mart, as everybody reads them."""
    for feed in ("flights", "schedule"):
        contract = find_contract(feed)
        vendor.land(stack, contract, DAYS)
        ingest(stack, contract, DAYS, {})
        refine(stack, contract, DAYS, {})
    # Without dbt's tests of them: they are not what is asked here.
    tables = ("--resource-type", "model", "--resource-type", "seed", "--select", "+mart_on_time_by_carrier")
    succeeded(assay_dbt_here(stack, "build", "--shared", *tables, "--days", RANGE, env={}))


# A model without YAML, on the line of its first word so that line numbers stay: contracts are enforced otherwise.
BARE = "{{ config(materialized='table', contract={'enforced': false}) }}"


@contextmanager
def model(folder: str, text: str) -> Iterator[str]:
    """A model of somebody's, for a while; gives its name."""
    file = PROJECT / "dbt_project" / "models" / folder / "zz_of_a_test.sql"
    file.write_text(text)
    try:
        yield file.stem
    finally:
        file.unlink()


def dbt(stack: Settings, *words: str, user: str = "ana") -> subprocess.CompletedProcess[str]:
    return assay_dbt_here(stack, *words, env={"ASSAY_USER": user})


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def carriers(stack: Settings, database: str) -> list[tuple]:
    question = f"select carrier, month, flights, delayed from {database}.mart_on_time_by_carrier order by 1, 2"
    return [tuple(row) for row in rows(stack, "clickhouse", question)]


def versions(stack: Settings) -> list[tuple[str, int]]:
    return [(pin.view, pin.snapshot_id) for pin in pin_published(stack)]


def test_a_mart_is_built_beside_the_shared_one_from_shared_tables(stack: Settings) -> None:
    before = carriers(stack, "warehouse")
    succeeded(dbt(stack, "build", "--select", "mart_on_time_by_carrier+"))
    assert before
    assert carriers(stack, "dev_ana__warehouse") == before
    with pytest.raises(AssayError, match="UNKNOWN_TABLE"):  # fct_flights was not built: it was read
        list(rows(stack, "clickhouse", "select 1 from dev_ana__warehouse.fct_flights"))


def test_a_change_in_gold_reaches_the_persons_mart_and_nobody_elses(stack: Settings) -> None:
    """One selection, two engines. One day of the two shows which Gold the mart was made of."""
    shared, lake = carriers(stack, "warehouse"), versions(stack)
    said = succeeded(dbt(stack, "run", "--select", "flight_facts+", "--days", "2013-10-09", user="bea"))
    assert said.index("— trino") < said.index("— clickhouse")
    of_the_day = {row["carrier"] for row in vendor.flights_by_day()[DAYS[-1]]}
    flights = sum(row[2] for row in carriers(stack, "dev_bea__warehouse"))
    assert flights == len(vendor.flights_by_day()[DAYS[-1]])
    assert {row[0] for row in carriers(stack, "dev_bea__warehouse")} == of_the_day
    assert (carriers(stack, "warehouse"), versions(stack)) == (shared, lake)


def test_own_gold_takes_the_place_of_the_shared_one_in_the_persons_views_until_it_is_dropped(stack: Settings) -> None:
    def shown() -> int:
        return int(next(rows(stack, "clickhouse", "select count() from dev_cleo__lake.gold_flight_facts"))[0])

    whole = int(next(rows(stack, "trino", "select count(*) from lake.gold.flight_facts"))[0])
    succeeded(dbt(stack, "run", "--select", "mart_on_time_by_carrier", user="cleo"))
    assert shown() == whole
    succeeded(dbt(stack, "run", "--select", "flight_facts", "--days", "2013-10-09", user="cleo"))
    succeeded(dbt(stack, "run", "--select", "mart_on_time_by_carrier", user="cleo"))
    assert shown() == len(vendor.flights_by_day()[DAYS[-1]]) != whole
    list(rows(stack, "trino", "drop table lake.dev_cleo__gold.flight_facts"))
    succeeded(dbt(stack, "run", "--select", "mart_on_time_by_carrier", user="cleo"))
    assert shown() == whole


def test_a_model_sees_its_rows_at_once(assay: Assay) -> None:
    said = succeeded(assay("dbt", "build", "--select", "mart_on_time_by_carrier", "--rows", "2", env=ANA))
    assert "mean_arrival_delay" in said.splitlines()[-4]  # above a line and two rows


def test_trino_refuses_an_analysts_statement_that_writes_a_shared_table(stack: Settings) -> None:
    before = load_table(stack, "gold", "flight_facts").current_snapshot()
    text = BARE + """{{ config(post_hook="delete from lake.gold.flight_facts") }}\nselect 1 as a\n"""
    with model("gold", text) as name:
        refused = dbt(stack, "run", "--select", name)
    assert refused.returncode == 1
    assert "Access Denied: Cannot delete from table lake.gold.flight_facts" in refused.stdout
    assert "dbt_project/models/gold/zz_of_a_test.sql" in refused.stdout
    assert load_table(stack, "gold", "flight_facts").current_snapshot() == before


def test_trino_lets_an_analyst_write_their_schemas_only(stack: Settings) -> None:
    succeeded(dbt(stack, "run", "--select", "flight_facts", "--days", RANGE))
    ana = stack.model_copy(update={"trino_user": "dev_ana"})
    list(rows(ana, "trino", "delete from lake.dev_ana__gold.flight_facts where carrier = 'UA'"))
    for statement in (
        "insert into lake.gold.flight_facts select * from lake.gold.flight_facts",
        "drop table lake.gold.flight_facts",
        "create table lake.silver.mine as select 1 as a",
        "create schema lake.dev_bob__gold",
        "alter table lake.dev_ana__gold.flight_facts rename to lake.gold.mine",
        "call lake.system.unregister_table('gold', 'flight_facts')",
        "delete from lake.silver.flights",
    ):
        with pytest.raises(AssayError, match="Access Denied"):
            list(rows(ana, "trino", statement))
    # Trino asks nobody who may run a table's procedures: it keeps every snapshot instead.
    with pytest.raises(AssayError, match="Retention specified"):
        list(
            rows(
                ana, "trino", "alter table lake.gold.flight_facts execute expire_snapshots(retention_threshold => '7d')"
            )
        )


def test_plain_dbt_in_a_persons_shell_is_as_safe(stack: Settings) -> None:
    before = carriers(stack, "warehouse")
    succeeded(dbt(stack, "run", "--select", "mart_on_time_by_carrier"))

    def typed(line: str) -> subprocess.CompletedProcess[str]:
        environment = {**SHELL, **ANA, "ASSAY_HOME": str(stack.home)}
        command = f'eval "$("{PROJECT}/assay" env)" && {line}'
        return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, cwd=stack.home)

    run = "dbt run --target clickhouse --select mart_on_time_by_carrier"
    succeeded(typed(run))
    refused = typed(f"ASSAY_DBT_PREFIX= {run}")
    assert refused.returncode != 0
    assert "would be written to the shared schema warehouse" in refused.stdout
    assert "./assay dbt --shared" in refused.stdout
    assert carriers(stack, "warehouse") == before


def test_a_schema_that_is_not_the_persons_is_refused_before_anything_is_made(stack: Settings) -> None:
    folder = PROJECT / "dbt_project" / "snapshots"
    config = "enabled=(target.type == 'clickhouse'), target_schema='warehouse', unique_key='a'"
    config += ", strategy='check', check_cols='all'"
    folder.mkdir()
    try:
        text = f"{{% snapshot zz_of_a_test %}}\n{{{{ config({config}) }}}}\nselect 1 as a\n{{% endsnapshot %}}\n"
        (folder / "zz_of_a_test.sql").write_text(text)
        refused = dbt(stack, "snapshot", "--select", "zz_of_a_test")
    finally:
        (folder / "zz_of_a_test.sql").unlink()
        folder.rmdir()
    assert refused.returncode != 0
    assert "may write only schemas that begin with dev_ana__" in refused.stdout
    with pytest.raises(AssayError, match="UNKNOWN_TABLE"):
        list(rows(stack, "clickhouse", "select 1 from warehouse.zz_of_a_test"))


@pytest.mark.parametrize(
    ("folder", "text", "said"),
    [
        (
            "warehouse/marts",
            BARE + "select\n    no_such_column\nfrom {{ ref('fct_flights') }}\n",
            "zz_of_a_test.sql:2: ",
        ),
        (
            "gold",
            BARE + "select\n    carrier,\n    no_such_column\nfrom {{ ref('flight_facts') }}\n",
            "zz_of_a_test.sql:3: ",
        ),
        ("warehouse/marts", "select 1 as a\nfrom {{ ref('no_such_model') }}\n", "zz_of_a_test.sql:2"),
        ("gold", "select 1 as a\nfrom {{ ref('flight_facts' }}\n", "zz_of_a_test.sql:2"),
        ("gold", "{{ config(database='other') }}\nselect 1 as a\n", "remove `database` from its config"),
    ],
)
def test_a_broken_model_names_file_and_line(stack: Settings, folder: str, text: str, said: str) -> None:
    with model(folder, text) as name:
        broken = dbt(stack, "run", "--select", name)
    assert broken.returncode != 0
    assert said in broken.stdout
    assert f"models/{folder}/zz_of_a_test.sql" in broken.stdout.splitlines()[-1]
    assert "Traceback" not in broken.stdout + broken.stderr


def test_the_documentation_is_one_site_with_both_engines(stack: Settings) -> None:
    site = stack.dbt_target / "docs" / "site"
    assert succeeded(dbt(stack, "docs", "--no-serve")).strip() == str(site)
    manifest = json.loads((site / "manifest.json").read_text())
    assert "model.assay.stg_flights" in manifest["parent_map"]["model.assay.fct_flights"]
    assert manifest["parent_map"]["model.assay.stg_flights"] == ["model.assay.flight_facts"]
    catalog = json.loads((site / "catalog.json").read_text())
    assert {"model.assay.flight_facts", "model.assay.fct_flights"} <= catalog["nodes"].keys()
    assert (site / "index.html").stat().st_size > 100_000
