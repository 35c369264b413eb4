"""What each service is: its command, its environment, its files.

Belongs here: command lines and configuration files of the embedded services, made from the settings alone, so that the
same settings give the same bytes and `up` can tell whether a running service is still the right one. Does not belong
here: starting them (`services`) and asking whether they are ready (`probes`).
"""

import hashlib
import json
import os
import secrets
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded import analysts, environment
from deploy.embedded.files import write_private
from deploy.embedded.leftovers import HOME, SERVICE
from deploy.embedded.ports import HOST, PORT_NAMES
from deploy.embedded.runtimes import Runtimes
from foundation.errors import AssayError
from foundation.lake import CATALOG_BUSY_MILLISECONDS, jdbc_url, spark_catalog
from foundation.names import CATALOG
from foundation.settings import PROJECT, Settings

SERVICES = ("spark", "trino", "clickhouse", "mlflow", "dagster-code", "dagster-webserver", "dagster-daemon")
DEFINITIONS = "orchestrator.definitions"
NEVER = "36500d"
# Python's and Dagster's own sockets add up to 40 characters to this.
SCRATCH_PATH_LIMIT = 60
PYTHON_VARIABLES = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "TMPDIR")
QUIET = ("GX_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
# What Spark 4.1 needs opened on Java 17 and later, from its own launcher (JavaModuleOptions).
SPARK_OPENS = (
    *(f"java.base/java.{name}" for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util")),
    *(f"java.base/java.util.{name}" for name in ("concurrent", "concurrent.atomic")),
    *(f"java.base/sun.{name}" for name in ("nio.ch", "nio.cs", "security.action", "util.calendar")),
    "java.base/jdk.internal.ref",
    "java.security.jgss/sun.security.krb5",
)


@dataclass(frozen=True)
class Program:
    """One service as `launch` starts it."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]


def embedded(settings: Settings) -> list[str]:
    """The services that this home runs itself, in the order in which people read them."""
    return [name for name in SERVICES if name.startswith("dagster") or not settings.is_external(name)]


def address(settings: Settings, service: str, ports: dict[str, int]) -> str:
    """What a person types to reach it; empty if it has no port or was never started."""
    port = ports.get(PORT_NAMES.get(service, service))
    if port is None:
        return ""
    scheme = {"spark": "sc://", "dagster-code": "grpc://"}.get(service, "http://")
    return f"{scheme}{HOST}:{port}"


def prepare_home(settings: Settings) -> None:
    """Makes the folders and files that must be there before the first service starts; keeps those that are."""
    for folder in ("spark", "trino", "mlflow/artifacts", "services/launch", "services/logs", "services/tmp"):
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    settings.clickhouse_dir.mkdir(parents=True, exist_ok=True)
    password = settings.services_dir / "clickhouse.password"
    if not password.exists():
        write_private(password, secrets.token_urlsafe(24) + "\n")
    prepare_data(settings)


def prepare_data(settings: Settings) -> None:
    """The part of a home that belongs to no service; a branch's home has this alone."""
    for folder in ("warehouse", "feast"):
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    for folder in (settings.dagster_home, settings.landing, settings.archive):
        folder.mkdir(parents=True, exist_ok=True)
    dagster = settings.dagster_home / "dagster.yaml"
    if not dagster.exists():
        dagster.write_text(DAGSTER_YAML.replace("HISTORY", str(settings.dagster_home / "history" / "runs")))
    if not settings.is_external("catalog"):
        make_catalog(settings.catalog_file)


def scratch(settings: Settings) -> Path:
    """Where the services keep temporary files and Unix sockets.

    In the home; or, if the home's path is so long that a socket below it would pass the system's limit (108 bytes on
    Linux, 104 on macOS), in a folder of this user in the system's temporary folder.

    Raises:
        AssayError: that folder is another user's.
    """
    folder = settings.services_dir / "tmp"
    if len(str(folder)) < SCRATCH_PATH_LIMIT:
        return folder
    digest = hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"assay-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise AssayError(f"{folder} belongs to another user", "set ASSAY_HOME to a folder with a shorter path")
    return folder


def make_catalog(file: Path) -> None:
    """Makes the Iceberg JDBC catalog's two tables (schema V1, with views), as Spark, Trino and PyIceberg expect them.

    Trino does not make them, and two engines that do at once collide. Write-ahead logging lets readers go on while an
    engine commits; the setting stays in the file.
    """
    with closing(sqlite3.connect(file, timeout=CATALOG_BUSY_MILLISECONDS / 1000)) as connection, connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute(
            "create table if not exists iceberg_tables (catalog_name varchar(255) not null, "
            "table_namespace varchar(255) not null, table_name varchar(255) not null, "
            "metadata_location varchar(1000), previous_metadata_location varchar(1000), iceberg_type varchar(5), "
            "primary key (catalog_name, table_namespace, table_name))"
        )
        connection.execute(
            "create table if not exists iceberg_namespace_properties (catalog_name varchar(255) not null, "
            "namespace varchar(255) not null, property_key varchar(255) not null, property_value varchar(1000), "
            "primary key (catalog_name, namespace, property_key))"
        )


def programs(settings: Settings, ports: dict[str, int], runtimes: Runtimes | None) -> list[Program]:
    """Every service that this home runs itself. `runtimes` may be None if neither Spark nor Trino is among them."""
    common = environment.exports(settings) | {
        # Not the caller's search path: the same home must give the same programs from any shell.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        # Compiled modules go beside the JVM parts, also where the caller's shell forbids writing them or the venv is
        # read-only: without them MLflow and Dagster spend twice as long on starting.
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(settings.cache / "pycache"),
        "TMPDIR": str(scratch(settings)),
    }
    if "ASSAY_NOW" not in os.environ:
        common.pop("ASSAY_NOW", None)  # it comes from the home's settings.env, which the service reads itself
    # An engine gets no address and no password but its own: so it also goes on when another service's port changes.
    engine = {name: common[name] for name in ("PATH", "PYTHONPATH", *PYTHON_VARIABLES, *QUIET) if name in common}
    found: list[Program] = []
    for name in embedded(settings):
        base = common if name.startswith("dagster") else engine
        variables = base | {SERVICE: name, HOME: str(settings.home)}
        if name in ("spark", "trino"):
            assert runtimes is not None
            variables["SPARK_HOME"] = str(runtimes.spark_home)
            command = (spark if name == "spark" else trino)(settings, ports[name], runtimes)
        else:
            command, more = PYTHON_SERVICES[name](settings, ports)
            variables |= more
        found.append(Program(name, tuple(command), variables))
    return found


def clickhouse_users(settings: Settings) -> Path:
    """The users of the embedded ClickHouse beside its owner: those of branches (deploy/embedded/branches.py)."""
    return settings.services_dir / "clickhouse.users"


def _java(binary: Path, settings: Settings) -> list[str]:
    # The serial collector: the least memory, and no loss on the two to four cores of a laptop with a heap of this size.
    return [
        str(binary),
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Djava.io.tmpdir={scratch(settings)}",
        "-Dfile.encoding=UTF-8",
        "-Duser.timezone=UTC",
    ]


def spark(settings: Settings, port: int, runtimes: Runtimes) -> list[str]:
    """Spark Connect, started with `java` itself: Spark's launcher scripts add a module that the JRE lacks."""
    conf = {
        "spark.app.name": "assay",
        "spark.ui.enabled": "false",
        "spark.connect.grpc.binding.address": HOST,
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.local.dir": f"{settings.home}/spark/local",
        "spark.sql.warehouse.dir": f"file://{settings.home}/spark/warehouse",
        "spark.sql.catalogImplementation": "in-memory",
        # 200, the default, makes a year of days spend its time on starting tasks.
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "UTC",
        # Errors would carry some 150 lines of the server's stack otherwise.
        "spark.sql.connect.serverStacktrace.enabled": "false",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        **spark_catalog(settings),
    }
    return [
        *_java(runtimes.java21, settings),
        "-Xms256m",
        "-Xmx2g",
        f"-Dderby.system.home={settings.home}/spark",
        "-Djdk.reflect.useDirectMethodHandle=false",
        f"-Dlog4j2.configurationFile={_write(settings, 'spark-log4j2.properties', SPARK_LOGGING)}",
        *(f"--add-opens={package}=ALL-UNNAMED" for package in SPARK_OPENS),
        "-cp",
        os.pathsep.join(str(entry) for entry in runtimes.spark_classpath),
        "org.apache.spark.deploy.SparkSubmit",
        "--class",
        "org.apache.spark.sql.connect.service.SparkConnectServer",
        "--master",
        "local[*]",
        *(part for name, value in conf.items() for part in ("--conf", f"{name}={value}")),
        "spark-internal",
    ]


def trino_catalog(settings: Settings) -> dict[str, str]:
    """The properties of the Iceberg catalog of a home or a branch in Trino."""
    # A branch's full refresh must say gc.enabled=false again: Trino's CREATE OR REPLACE forgets it (spark_assets/clone.py).
    of_branch = {"iceberg.allowed-extra-properties": "gc.enabled"} if settings.base else {}
    return of_branch | {
        "iceberg.catalog.type": "jdbc",
        "iceberg.jdbc-catalog.catalog-name": settings.catalog,
        "iceberg.jdbc-catalog.driver-class": "org.sqlite.JDBC",
        "iceberg.jdbc-catalog.connection-url": jdbc_url(settings),
        "iceberg.jdbc-catalog.default-warehouse-dir": settings.warehouse_uri,
        # A backfill writes more days than the default of 100 in one statement.
        "iceberg.max-partitions-per-writer": "1000",
        # Trino's rules let everybody run a table's procedures; expiry is Spark's work (spark_assets/maintenance.py), so that
        # nobody loses a snapshot to a slip here.
        "iceberg.expire-snapshots.min-retention": NEVER,
        "iceberg.remove-orphan-files.min-retention": NEVER,
        # Locations are file: paths from the root; below the warehouse alone Spark's tables would not be found.
        "fs.native-local.enabled": "true",
        "local.location": "/",
    }


def trino(settings: Settings, port: int, runtimes: Runtimes) -> list[str]:
    """Trino, coordinator and worker in one, with the one catalog that everything shares."""
    etc = settings.services_dir / "trino"
    (etc / "catalog").mkdir(parents=True, exist_ok=True)
    config = {
        "coordinator": "true",
        "node-scheduler.include-coordinator": "true",
        "http-server.http.port": str(port),
        "http-server.log.enabled": "false",
        "discovery.uri": f"http://{HOST}:{port}",
        # Branches add theirs while it runs; it keeps them as files beside the one written here.
        "catalog.management": "dynamic",
        # The heap is 1536 MB: 700 for queries, 400 for what Trino does not count, the rest for itself.
        "query.max-memory": "700MB",
        "query.max-memory-per-node": "700MB",
        "memory.heap-headroom-per-node": "400MB",
    }
    config["access-control.config-files"] = f"{etc}/access-control.properties"
    access = {
        "access-control.name": "file",
        "security.config-file": str(analysts.write_rules(settings)),
        # A new analyst is admitted while Trino runs.
        "security.refresh-period": "1s",
    }
    _write(settings, "trino/access-control.properties", _properties(access))
    _write(settings, "trino/config.properties", _properties(config))
    _write(settings, "trino/log.properties", "io.trino=INFO\n")
    _write(
        settings,
        f"trino/catalog/{CATALOG}.properties",
        _properties({"connector.name": "iceberg", **trino_catalog(settings)}),
    )
    return [
        *_java(runtimes.java25, settings),
        "-Xms256m",
        "-Xmx1536m",
        "--add-opens=java.base/java.nio=ALL-UNNAMED",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-cp",
        f"{runtimes.trino}/lib/*",
        f"-Dconfig={etc}/config.properties",
        f"-Dlog.levels-file={etc}/log.properties",
        "-Dnode.environment=assay",
        "-Dnode.id=assay-1",
        f"-Dnode.internal-address={HOST}",
        f"-Dnode.bind-ip={HOST}",
        f"-Dnode.data-dir={settings.home}/trino",
        f"-Dcatalog.config-dir={etc}/catalog",
        f"-Dplugin.dir={runtimes.trino}/plugin",
        "io.trino.server.TrinoServer",
    ]


def _clickhouse(settings: Settings, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "deploy.embedded.clickhouse_server", "--path", str(settings.clickhouse_dir)]
    command += ["--users", str(clickhouse_users(settings))]
    return [*command, "--host", HOST, "--port", str(ports["clickhouse"])], {
        "CLICKHOUSE_USER": settings.clickhouse_user,
        "CLICKHOUSE_PASSWORD": settings.clickhouse_password,
    }


def _mlflow(settings: Settings, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    folder = settings.home / "mlflow"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(ports["mlflow"]),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", f"file://{folder}/artifacts"]
    # Job execution is for evaluations inside the server: 12 processes and 1.4 GB instead of 4 and 0.5 GB.
    return command, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def _dagster_code(settings: Settings, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    # `code-server` rather than `api grpc`: it stays up and says so when the definitions cannot be loaded, and reloads
    # them when asked.
    command = [sys.executable, "-m", "dagster", "code-server", "start", "--module-name", DEFINITIONS]
    command += ["--working-directory", str(PROJECT), "--location-name", "assay", "--log-level", "warning"]
    return [*command, "--host", HOST, "--port", str(ports["dagster-code"]), "--use-python-environment-entry-point"], {}


def _dagster_webserver(settings: Settings, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "dagster_webserver", "--workspace", str(_workspace(settings, ports))]
    return [*command, "--host", HOST, "--port", str(ports["dagster"])], {}


def _dagster_daemon(settings: Settings, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "dagster._daemon", "run", "--workspace", str(_workspace(settings, ports))], {}


PYTHON_SERVICES = {
    "clickhouse": _clickhouse,
    "mlflow": _mlflow,
    "dagster-code": _dagster_code,
    "dagster-webserver": _dagster_webserver,
    "dagster-daemon": _dagster_daemon,
}


def _workspace(settings: Settings, ports: dict[str, int]) -> Path:
    server = f"host: {HOST}\n      port: {ports['dagster-code']}\n      location_name: assay\n"
    return _write(settings, "workspace.yaml", f"load_from:\n  - grpc_server:\n      {server}")


def _write(settings: Settings, name: str, text: str) -> Path:
    file = settings.services_dir / name
    if not file.exists() or file.read_text() != text:
        write_private(file, text)
    return file


def _properties(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def write_plan(settings: Settings, program: Program) -> tuple[Path, str]:
    """Writes what `launch` reads; returns the file and its text, by which a changed program is recognised."""
    # A variable of the shell that started supervisord must not reach a service that does not get it from its home.
    ours = {*environment.exports(settings), "ASSAY_NOW", "ICEBERG_CATALOG_URI", "JAVA_TOOL_OPTIONS", "PYTHONHOME"}
    plan = {
        "command": program.command,
        "environment": program.environment,
        "unset": sorted(ours - set(program.environment)),
        "directory": str(PROJECT),
    }
    text = json.dumps(plan, indent=1)
    return _write(settings, f"launch/{program.name}.json", text), text


SPARK_LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_OUT
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss} %p %c{1}: %m%n%ex
"""

DAGSTER_YAML = """\
# The Dagster instance of this home. `./assay up` writes this file once; it is yours to change.
telemetry: {enabled: false}
nux: {enabled: false}
# A year's events in one transaction instead of thousands.
event_log_storage:
  module: orchestrator.event_log
  class: BatchedSqliteEventLog
  config: {base_dir: "HISTORY"}
concurrency:
  # Two runs at once: one works in an engine while the other starts. More would only wait for two cores.
  runs: {max_concurrent_runs: 2}
  # One writer a table: a pool is a table.
  pools: {granularity: op, default_limit: 1}
run_monitoring: {enabled: true, start_timeout_seconds: 300, free_slots_after_run_end_seconds: 60}
sensors: {use_threads: true, num_workers: 2}
schedules: {use_threads: true, num_workers: 1}
auto_materialize: {use_threads: true, num_workers: 1}
backfills: {use_threads: true, num_workers: 1}
freshness: {enabled: true}
retention:
  schedule: {purge_after_days: {skipped: 7, failure: 30, success: 30}}
  sensor: {purge_after_days: {skipped: 1, failure: 30, success: 30}}
  auto_materialize: {purge_after_days: {skipped: 1, failure: 30, success: 30}}
"""
