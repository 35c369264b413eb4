"""What the services do without being started: ports, log excerpts, runs that a killed code server left."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from deploy.embedded import ports, programs
from deploy.embedded.launch import EXECUTED_BY_CODE_SERVER, fail_abandoned_runs
from deploy.embedded.runtimes import Runtimes
from deploy.embedded.services import relevant_lines
from foundation.errors import AssayError
from foundation.settings import Settings, load

JAVA_LOG = """\
2026-01-01T00:00:00 INFO starting
java.lang.RuntimeException: the server cannot start
\tat org.example.Main.main(Main.java:1)
Caused by: java.net.BindException: Address already in use
\t... 12 more
"""
PYTHON_LOG = """\
loading
Traceback (most recent call last):
  File "/somewhere/server.py", line 3, in <module>
    open_database()
    ~~~~~~~~~~~~~^^
sqlite3.DatabaseError: file is not a database
"""


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Settings:
    home = tmp_path_factory.mktemp("h")  # short, as sockets want it
    for name in [name for name in os.environ if name.startswith("ASSAY_")]:
        monkeypatch.delenv(name)
    (home / "services").mkdir()
    return load(home)


@pytest.fixture
def foreign() -> Iterator[socket.socket]:
    """A port that somebody else listens on."""
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen(1)
        yield server


def nobody(_: str) -> None:
    pass


def test_a_java_stack_is_reduced_to_what_it_says() -> None:
    assert relevant_lines(JAVA_LOG) == [
        "java.lang.RuntimeException: the server cannot start",
        "Caused by: java.net.BindException: Address already in use",
    ]


def test_a_python_traceback_is_reduced_to_its_error() -> None:
    assert relevant_lines(PYTHON_LOG)[-1] == "sqlite3.DatabaseError: file is not a database"
    assert "open_database" not in "".join(relevant_lines(PYTHON_LOG))


def test_a_long_log_keeps_the_first_error_and_the_end() -> None:
    lines = relevant_lines("FatalError: the cause\n" + "\n".join(f"line {number}" for number in range(99)), limit=5)
    assert lines == ["FatalError: the cause", "…", "line 96", "line 97", "line 98"]


def test_ports_are_kept(settings: Settings) -> None:
    first = ports.assign(settings, [], nobody)
    assert len(set(first.values())) == len(ports.LISTENING)
    assert ports.assign(settings, [], nobody) == first == ports.read(settings)


def test_a_kept_port_that_somebody_took_is_replaced_and_reported(settings: Settings, foreign: socket.socket) -> None:
    taken = foreign.getsockname()[1]
    before = ports.assign(settings, [], nobody)
    (settings.services_dir / "addresses.json").write_text(json.dumps(before | {"trino": taken}))
    heard: list[str] = []
    after = ports.assign(settings, [], heard.append)
    assert after["trino"] != taken
    assert {name: after[name] for name in after if name != "trino"} == {n: before[n] for n in before if n != "trino"}
    assert f"process {os.getpid()}" in heard[0]


def test_a_kept_port_of_a_running_service_stays(settings: Settings, foreign: socket.socket) -> None:
    taken = foreign.getsockname()[1]
    before = ports.assign(settings, [], nobody) | {"trino": taken}
    (settings.services_dir / "addresses.json").write_text(json.dumps(before))
    assert ports.assign(settings, ["trino"], nobody) == before


def test_a_fixed_port_that_is_taken_is_refused_by_its_holder(
    settings: Settings, foreign: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_PORT_DAGSTER_CODE", str(foreign.getsockname()[1]))
    with pytest.raises(AssayError, match=f"ASSAY_PORT_DAGSTER_CODE .* process {os.getpid()}"):
        ports.assign(settings, [], nobody)
    monkeypatch.setenv("ASSAY_PORT_DAGSTER_CODE", "web")
    with pytest.raises(AssayError, match="is not a port"):
        ports.assign(settings, [], nobody)


def test_passwords_are_in_no_command_line_and_only_where_they_are_used(settings: Settings) -> None:
    programs.prepare_home(settings)
    chosen = ports.assign(settings, [], nobody)
    parts = Runtimes(Path("java"), Path("java"), Path("spark"), (Path("jars"),), Path("trino"))
    password = settings.clickhouse_password
    made = {program.name: program for program in programs.programs(settings, chosen, parts)}
    assert list(made) == list(programs.SERVICES)
    assert not [name for name, program in made.items() if password in " ".join(program.command)]
    knows = [name for name, program in made.items() if password in program.environment.values()]
    assert knows == ["clickhouse", "dagster-code", "dagster-webserver", "dagster-daemon"]


def test_with_a_real_clickhouse_server_the_embedded_one_is_not_among_the_programs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.prepare_home(settings)
    for name, value in (
        ("CLICKHOUSE_HOST", "clickhouse.example"),
        ("CLICKHOUSE_PASSWORD", "theirs"),
        ("SPARK_REMOTE", "sc://spark.example:15002"),
        ("TRINO_HOST", "trino.example"),
        ("ICEBERG_CATALOG_URI", "http://catalog.example/api"),
        ("ASSAY_WAREHOUSE_URI", "s3://lake/warehouse"),
    ):
        monkeypatch.setenv(name, value)
    theirs = load(settings.home)
    assert theirs.clickhouse_address[0] == "clickhouse.example"
    parts = Runtimes(Path("java"), Path("java"), Path("spark"), (Path("jars"),), Path("trino"))
    made = programs.programs(theirs, ports.assign(theirs, [], nobody), parts)
    assert "clickhouse" not in [program.name for program in made]
    assert not [program for program in made if any("clickhouse_server" in word for word in program.command)]


def test_a_long_home_keeps_its_sockets_elsewhere(tmp_path: Path, settings: Settings) -> None:
    long = load(tmp_path / ("x" * 120))
    folder = programs.scratch(long)
    assert len(str(folder)) < programs.SCRATCH_PATH_LIMIT
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()


def test_a_run_that_a_killed_code_server_left_is_marked_as_failed(settings: Settings) -> None:
    programs.prepare_home(settings)
    home = settings.dagster_home
    assert fail_abandoned_runs(home) == 0, "a home without runs"

    @dg.job
    def nothing() -> None:
        pass

    with dg.DagsterInstance.from_config(str(home)) as instance:
        abandoned, command_line = (
            instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags=tags).run_id
            for tags in ({EXECUTED_BY_CODE_SERVER: "{}"}, {})
        )
    assert fail_abandoned_runs(home) == 1
    with dg.DagsterInstance.from_config(str(home)) as instance:
        status = {one.run_id: one.status for one in instance.get_runs()}
    assert status == {abandoned: dg.DagsterRunStatus.FAILURE, command_line: dg.DagsterRunStatus.STARTED}
    assert fail_abandoned_runs(home) == 0
