"""The sensor finds what really failed, and real receivers get one message: a mail server and a web hook, both local."""

import contextlib
import email
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.utils import make_new_run_id
from rich.console import Console

from foundation.contract import Contract
from foundation.errors import AssayError
from foundation.settings import Settings, load
from orchestrator import alert_delivery, spikes
from orchestrator.alert_sensor import alerts_sensor, recall
from orchestrator.alerts import DRIFT, KIND, LATE_CHECKS, Memory
from orchestrator.assets.lake import lake_assets
from orchestrator.cli.alerts import finding, print_alerts, send_test
from spark_assets import publish
from spark_assets.classify import ACCEPTED, DUPLICATE, QUARANTINED, SUPERSEDED
from spark_assets.publish import PartOutcome, SilverWrite
from tests.unit.homes import dagster_home

SECRET = "hunter2secret"
OWNER = "team:operations"
DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-03-01")
KEY = dg.AssetKey(["silver", "events"])
PLAIN = dg.AssetKey(["gold", "whole"])
ON_A_HOME = pytest.mark.parametrize("watch", ["home"], indirect=True)


class Hook(ThreadingHTTPServer):
    """A web hook that keeps what it is sent; `answer` is what it says."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[dict[str, Any]] = []
        self.answer = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if hook.answer == 200:
                    hook.got.append(body)
                self.send_response(hook.answer)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Mailbox(Controller):
    """A mail server that wants a user and a password, and keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        super().__init__(
            self,
            hostname="127.0.0.1",
            port=free_port(),
            authenticator=lambda *given: AuthResult(success=given[-1].password == SECRET.encode()),
            auth_require_tls=False,
            auth_required=True,
        )

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        self.got.append(email.message_from_bytes(envelope.content, policy=default))  # pyright: ignore[reportArgumentType]
        return "250 OK"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.stop()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    made.start()
    yield made
    made.stop()


class Broken:
    """What is wrong with the tests' assets: days by name, or what the unpartitioned one says."""

    def __init__(self) -> None:
        self.days: set[str] = set()
        self.whole = ""
        self.drifted: list[str] = []
        self.dies = False


class Watch:
    """A platform of two assets, the sensor, and the clock."""

    def __init__(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.instance, self.broken, self.later, self.said = instance, Broken(), 0.0, ""
        self.caplog = caplog
        caplog.set_level("INFO")
        self.logged: list[str] = []
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.later)
        self.definitions = dg.Definitions(_assets(self.broken), asset_checks=[_standing])

    def run(self, first: str, last: str | None = None, key: dg.AssetKey = KEY) -> dg.ExecuteInProcessResult:
        days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, tags=days if first else {}, asset_selection=[key], raise_on_error=False
        )

    def tick(self) -> None:
        """One tick, with the settings of the moment; nothing that it says or logs may hold the secret."""
        context = dg.build_sensor_context(instance=self.instance, definitions=self.definitions)
        for level in ("info", "warning", "error"):
            setattr(context.log, level, self.logged.append)
        self.said = str(alerts_sensor(load()).evaluate_tick(context).skip_message)
        assert SECRET not in " ".join([self.said, *self.logged, self.caplog.text])

    @property
    def memory(self) -> Memory:
        memory = recall(self.instance)
        assert memory is not None
        return memory


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=KEY) for name in ("rows_are_there", *LATE_CHECKS)], can_subset=True
)
def _standing() -> Iterator[dg.AssetCheckResult]:
    yield from ()


def _assets(broken: Broken) -> list[dg.AssetsDefinition]:
    @dg.asset(
        key=KEY,
        owners=[OWNER],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec("no_column_drifted", asset=KEY, metadata={KIND: DRIFT}),
        ],
    )
    def events(context: dg.AssetExecutionContext):
        if broken.dies:
            raise KeyboardInterrupt
        for day in sorted(set(context.partition_keys) - broken.days):
            context.log_event(dg.AssetMaterialization(KEY, partition=day))
        yield dg.AssetCheckResult(
            check_name="no_column_drifted",
            passed=not broken.drifted,
            severity=dg.AssetCheckSeverity.WARN,
            description=", ".join(broken.drifted),
            metadata={"next": "./assay drift"} if broken.drifted else {},
        )
        if bad := broken.days & set(context.partition_keys):
            raise dg.Failure(f"{len(bad)} files are not CSV.\nNext: ask for them again.")
        yield dg.MaterializeResult(asset_key=KEY)

    @dg.asset(key=PLAIN, owners=["team:analytics"])
    def whole() -> None:
        if broken.whole:
            raise ValueError(broken.whole)

    @dg.asset(key=["gold", "after"], deps=[KEY], partitions_def=DAYS, owners=["team:analytics"])
    def after() -> None: ...

    return [events, whole, after]


@pytest.fixture
def watch(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Watch]:
    """On Dagster's log in memory; `ON_A_HOME` on that of a home, a database a run."""
    with (
        dg.DagsterInstance.ephemeral()
        if getattr(request, "param", None) is None
        else dg.DagsterInstance.from_config(str(dagster_home(tmp_path / "home" / "dagster"))) as instance
    ):
        yield Watch(instance, monkeypatch, caplog)


@pytest.fixture
def told(watch: Watch, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A sensor that has looked once, and tells the hook."""
    address(monkeypatch, f"*=json://user:{SECRET}@127.0.0.1:{hook.server_port}/{SECRET}")
    watch.tick()
    return watch


def address(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ASSAY_ALERTS", value)


def day(number: int) -> str:
    return str(date(2013, 1, 1) + timedelta(days=number))


@ON_A_HOME
def test_thirty_failed_partitions_are_one_mail_and_one_call_of_the_hook(
    watch: Watch, hook: Hook, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = f"mailto://user:{SECRET}@127.0.0.1:{mailbox.port}?from=assay@example.org&to=ops@example.org&mode=insecure"
    address(monkeypatch, f"{OWNER}={mail} {OWNER}=json://127.0.0.1:{hook.server_port}/{SECRET}")
    watch.tick()
    watch.broken.days = {day(number) for number in range(30)}
    watch.run(day(0), day(25))
    for number in range(26, 30):
        watch.run(day(number))
    for _ in range(3):
        watch.tick()
    (call,), (message,) = hook.got, mailbox.got
    assert call["title"] == message["subject"] == "Assay: 1 problem of operations (silver/events)"
    assert call["message"].splitlines() == [
        "NEW  silver/events: failed: 2013-01-01...2013-01-30 (30 partitions)",
        *[line for line in call["message"].splitlines() if line.startswith("    since ")],
        "    1 files are not CSV.",
        "    Next: ask for them again",
    ]
    assert message["to"] == "ops@example.org"
    text = message.get_body(("plain", "html"))
    assert text is not None
    assert "2013-01-01...2013-01-30 (30 partitions)" in text.get_content()
    (one,) = watch.memory.open.values()
    assert sorted(one.to) == [f"json://127.0.0.1:{hook.server_port}", f"mailto://127.0.0.1:{mailbox.port}"]


def test_what_failed_before_the_first_look_is_not_told(
    watch: Watch, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    address(monkeypatch, f"*=json://127.0.0.1:{hook.server_port}")
    watch.broken.days = {day(0)}
    watch.run(day(0))
    watch.tick()
    watch.tick()
    assert hook.got == []


@ON_A_HOME
def test_a_partition_that_is_made_again_leaves_the_problem_and_the_last_one_ends_it(told: Watch, hook: Hook) -> None:
    told.broken.days = {day(1), day(3)}
    told.run(day(0), day(4))
    told.tick()
    assert told.memory.open["failed:silver/events:"].problem.partitions == (day(1), day(3))
    told.broken.days = {day(3)}
    told.run(day(1))
    told.tick()
    assert told.memory.open["failed:silver/events:"].problem.partitions == (day(3),)
    told.broken.days = set()
    told.run(day(3))
    told.tick()
    told.tick()
    assert [call["message"].split()[0] for call in hook.got] == ["NEW", "OVER"]


def test_while_a_run_tries_again_the_problem_is_not_over(told: Watch, hook: Hook) -> None:
    told.broken.days = {day(1)}
    told.run(day(1))
    told.tick()
    job = told.definitions.resolve_implicit_global_asset_job_def()
    run = told.instance.create_run_for_job(job, asset_selection=frozenset([KEY]), tags={"dagster/partition": day(1)})
    told.instance.report_dagster_event(
        dg.DagsterEvent(
            "ASSET_MATERIALIZATION_PLANNED",
            job.name,
            event_specific_data=AssetMaterializationPlannedData(KEY, partition=day(1)),
        ),
        run.run_id,
    )
    told.tick()
    assert list(told.memory.open) == ["failed:silver/events:"]
    told.instance.report_run_failed(run)
    told.tick()
    assert [call["message"].split()[0] for call in hook.got] == ["NEW"]


def test_an_asset_without_partitions_is_over_when_it_is_made(told: Watch, hook: Hook) -> None:
    told.broken.whole = "no <b>room_left</b> *here*"
    told.run("", key=PLAIN)
    told.tick()
    told.broken.whole = ""
    told.run("", key=PLAIN)
    told.tick()
    assert [call["title"] for call in hook.got] == [
        "Assay: 1 problem of analytics (gold/whole)",
        "Assay: 1 over of analytics (gold/whole)",
    ]
    assert [call["type"] for call in hook.got] == ["warning", "success"]
    assert "ValueError: no <b>room_left</b> *here*" in hook.got[0]["message"]


def test_an_asset_that_was_made_and_failed_again_between_two_looks_is_not_over(told: Watch, hook: Hook) -> None:
    for what in ("no room", "", "no room"):
        told.broken.whole = what
        told.run("", key=PLAIN)
        if not hook.got:
            told.tick()
    told.tick()
    assert list(told.memory.open) == ["failed:gold/whole:"]


def test_only_what_failed_is_told_and_not_what_waits_for_it(told: Watch, hook: Hook) -> None:
    told.broken.days = {day(0)}
    told.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=told.instance,
        partition_key=day(0),
        asset_selection=[KEY, dg.AssetKey(["gold", "after"])],
        raise_on_error=False,
    )
    told.tick()
    assert list(told.memory.open) == ["failed:silver/events:"]


def test_what_the_run_made_is_not_told_for_its_older_failures(watch: Watch) -> None:
    watch.broken.days = {day(0)}
    watch.run(day(0))
    watch.tick()
    watch.broken.whole = "no room"
    watch.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=watch.instance, partition_key=day(1), asset_selection=[KEY, PLAIN], raise_on_error=False
    )
    watch.tick()
    assert list(watch.memory.open) == ["failed:gold/whole:"]


def test_a_run_that_died_is_told_with_the_assets_of_its_step(told: Watch, hook: Hook) -> None:
    told.broken.dies = True
    with contextlib.suppress(KeyboardInterrupt):
        told.run(day(0))
    (run,) = told.instance.get_runs()
    if not run.is_finished:
        told.instance.report_run_failed(run, "its process was killed")
    told.tick()
    (call,) = hook.got
    assert "silver/events: failed: 2013-01-01" in call["message"]


def test_a_run_that_never_began_is_told_once(told: Watch, hook: Hook) -> None:
    job = told.definitions.resolve_implicit_global_asset_job_def()
    run = told.instance.create_run_for_job(job, asset_selection=frozenset([KEY]))
    told.instance.report_run_failed(run, "the code server was not there")
    told.tick()
    told.tick()
    (call,) = hook.got
    assert call["title"] == f"Assay: 1 problem of operations (run {run.run_id[:8]})"
    assert "the code server was not there" in call["message"]
    assert "It was to make silver/events." in call["message"]
    assert told.memory.open == {}


def test_a_check_says_what_kind_of_alert_it_is(told: Watch, hook: Hook) -> None:
    told.broken.drifted = ["wind"]
    told.run(day(0), day(2))
    told.tick()
    (call,) = hook.got
    assert call["message"].startswith("NEW  silver/events: drift, no_column_drifted\n")
    assert call["message"].endswith("wind\n    Next: ./assay drift")
    told.broken.drifted = []
    told.run(day(3), day(4))
    told.tick()
    assert hook.got[1]["message"].startswith("OVER  silver/events: drift, no_column_drifted")


def evaluated(watch: Watch, name: str, passed: bool, partition: str | None) -> None:
    """An evaluation in a run of its own: Dagster keeps one of a check, partition and run."""
    check = dg.AssetCheckEvaluation(asset_key=KEY, check_name=name, passed=passed, partition=partition)
    event = dg.DagsterEvent("ASSET_CHECK_EVALUATION", "", event_specific_data=check)
    watch.instance.report_dagster_event(event, make_new_run_id())


@ON_A_HOME
def test_a_check_of_partitions_is_one_problem_with_its_days(told: Watch, hook: Hook) -> None:
    for number in (1, 2, 3, 7):
        evaluated(told, "rows_are_there", number == 9, day(number))
    told.tick()
    (call,) = hook.got
    assert (
        "silver/events: failed check, rows_are_there: 2013-01-02...2013-01-04, 2013-01-08 (4 partitions)"
        in call["message"]
    )
    for number in (1, 2, 3, 7):
        assert len(told.memory.open) == 1
        evaluated(told, "rows_are_there", True, day(number))
        told.tick()
    assert told.memory.open == {}


def test_a_check_that_is_declared_no_more_is_no_problem(told: Watch, hook: Hook) -> None:
    evaluated(told, "of_last_year", False, None)
    told.tick()
    evaluated(told, "rows_are_there", False, None)
    told.tick()
    told.definitions = dg.Definitions(_assets(told.broken))
    evaluated(told, "rows_are_there", False, None)
    told.tick()
    assert [call["message"].split()[0] for call in hook.got] == ["NEW", "OVER"]


@pytest.mark.parametrize("name", LATE_CHECKS)
def test_the_standing_checks_say_late(told: Watch, hook: Hook, name: str) -> None:
    evaluated(told, name, False, None)
    told.tick()
    assert f"silver/events: late, {name}" in hook.got[0]["message"]


def test_a_dead_hook_hinders_no_run_and_gets_the_message_when_it_is_back(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    address(monkeypatch, f"*=json://user:{SECRET}@127.0.0.1:{port}/{SECRET}")
    watch.tick()
    watch.broken.days = {day(0)}
    watch.run(day(0))
    watch.broken.days = set()
    watch.tick()
    assert watch.run(day(1)).success
    (waiting,) = watch.memory.letters
    assert waiting.refused.startswith(f"json://127.0.0.1:{port}: failure")
    assert any("was not told" in line and "again in 2 minutes" in line for line in watch.logged)
    back = Hook(port)
    watch.later = 100
    watch.tick()
    assert back.got == [], "not before two minutes"
    watch.later = 121
    watch.tick()
    watch.tick()
    assert [call["title"] for call in back.got] == ["Assay: 1 problem of operations (silver/events)"]
    assert watch.memory.letters == []
    back.stop()


def test_a_hook_that_took_it_gets_it_once_while_another_is_dead(
    watch: Watch, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    address(monkeypatch, f"*=json://127.0.0.1:{free_port()} *=json://127.0.0.1:{hook.server_port}")
    watch.tick()
    watch.broken.days = {day(0)}
    watch.run(day(0))
    waits = []
    for hours in range(26):
        watch.later = 3_600.0 * hours
        watch.tick()
        waits.append(len(watch.memory.letters))
    assert [call["message"].split()[0] for call in hook.got] == ["NEW", "STILL"]
    assert waits[-1] == 1, "the first was given up after a day, the reminder waits"


def test_a_hook_that_does_not_answer_ends_in_time(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_delivery, "SEND_SECONDS", 1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        address(monkeypatch, f"*=json://127.0.0.1:{deaf.getsockname()[1]}")
        watch.tick()
        watch.broken.days = {day(0)}
        watch.run(day(0))
        began = time.monotonic()
        watch.tick()
        assert time.monotonic() - began < 5
    assert "timeout" in watch.memory.letters[0].refused


def test_what_a_tick_has_no_time_to_send_the_next_one_sends(
    told: Watch, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.broken.days = {day(0)}
    told.run(day(0))
    with monkeypatch.context() as slow:
        slow.setattr(alert_delivery, "TICK_SECONDS", -1)
        told.tick()
    assert hook.got == []
    told.tick()
    assert len(hook.got) == 1


def test_without_addresses_the_tick_says_it(watch: Watch) -> None:
    watch.tick()
    watch.broken.days = {day(0)}
    watch.run(day(0))
    watch.tick()
    assert any("silver/events: failed: 2013-01-01" in line for line in watch.logged)
    assert "ASSAY_ALERTS is not set" in watch.said
    assert watch.memory.letters == []


def test_an_address_that_is_wrong_fails_no_tick_and_loses_nothing(
    watch: Watch, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    address(monkeypatch, f"*=nowhere://u:{SECRET}@h")
    watch.tick()
    watch.broken.days = {day(0)}
    watch.run(day(0))
    watch.tick()
    assert any("Apprise understands no address" in line for line in watch.logged)
    address(monkeypatch, f"*=json://127.0.0.1:{hook.server_port}")
    watch.tick()
    assert len(hook.got) == 1


def shown(show: Callable[[Console], object]) -> str:
    console = Console(record=True, width=400)
    show(console)
    return console.export_text()


@ON_A_HOME
def test_the_command_shows_what_is_open_and_who_was_told(told: Watch, hook: Hook) -> None:
    told.broken.days = {day(0)}
    told.run(day(0))
    told.tick()
    text = shown(lambda console: print_alerts(load(), console))
    assert f"team:operations  json://127.0.0.1:{hook.server_port}" in text
    assert "silver/events: failed: 2013-01-01" in text
    assert "1 problem is open" in text
    assert SECRET not in text


def test_the_test_message_says_what_came_back(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    address(monkeypatch, f"{OWNER}=json://127.0.0.1:{hook.server_port}/{SECRET} *=json://127.0.0.1:{free_port()}")
    answers: list[bool] = []
    text = shown(lambda console: answers.append(send_test(load(), console)))
    assert answers == [False]
    assert [call["title"] for call in hook.got] == ["Assay: a test"]
    assert "took it" in text
    assert "failure after" in text
    assert SECRET not in text
    assert finding(load()) == (True, "2 addresses, of *, team:operations")


def test_a_spike_is_judged_by_what_dagster_was_told_of_the_days_before() -> None:
    key = dg.AssetKey(["quarantine", "events"])
    first = date(2013, 1, 1)
    with dg.DagsterInstance.ephemeral() as instance:
        for number in range(40):
            for rows in (500, 5 if number >= 12 else 100):  # the newest counts, and of the newest 28 days
                told = dg.AssetMaterialization(
                    key, partition=str(first + timedelta(days=number)), metadata={"dagster/partition_row_count": rows}
                )
                instance.report_runless_asset_event(told)
        last = first + timedelta(days=40)
        assert spikes.result(instance, key, {last: 15}, [last]).passed
        found = spikes.result(instance, key, {last: 16}, [last])
        assert not found.passed
        assert found.description == "2013-02-10: 16 rows, usual are 5"
        assert found.metadata["next"].value == "./assay quarantine events --day 2013-02-10"
        assert spikes.result(instance, key, {last: 16}, []).passed, "what was not published failed its run"
        assert spikes.result(instance, key, {first: 900}, [first]).passed, "nobody knows yet what is usual"


def test_a_run_of_silver_judges_the_quarantine_of_what_it_published(
    contract: Contract, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = date(2013, 1, 1)
    rows = [5] * 7 + [400, 15, 16]
    parts: dict[date | None, PartOutcome] = {}
    for number, count in enumerate(rows):
        error = AssayError("too many", "look") if count == 400 else None
        fates = {ACCEPTED: 1_000, QUARANTINED: count - 5, DUPLICATE: 5, SUPERSEDED: 0}
        parts[first + timedelta(days=number)] = PartOutcome(first + timedelta(days=number), fates, error=error)
    monkeypatch.setattr(publish, "refine", lambda *_: SilverWrite(parts, 1, 1, 1, {}))
    silver = lake_assets(settings, contract, DAYS)[-1]
    assert isinstance(silver, dg.AssetsDefinition)
    with dg.DagsterInstance.ephemeral() as instance:
        days = {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": "2013-01-10"}
        job = dg.Definitions([silver]).resolve_implicit_global_asset_job_def()
        run = job.execute_in_process(instance=instance, tags=days, raise_on_error=False)
        found = {one.check_name: one for one in run.get_asset_check_evaluations()}
    assert found[spikes.CHECK].metadata["days_with_more"].value == ["2013-01-10"], "the 400 were not published"
    assert not found[spikes.CHECK].passed
    assert len(found) == 4
