"""The embedded services as their users meet them. `stack` is a running home, shared by all integration tests."""

import time
from pathlib import Path

import psutil
import pytest

from deploy.embedded import doctor, leftovers, ports, probes, programs, services, supervision
from foundation.settings import Settings

# A killed service must answer again within this; a JVM on a busy machine takes most of it.
BACK_SECONDS = 120


def silent(_: str) -> None:
    pass


def pids(settings: Settings) -> dict[str, int | None]:
    return {one.name: one.pid for one in services.status(settings)}


def wait_ready(settings: Settings, name: str, not_pid: int) -> int:
    """The new process id of a service that has answered its users' question again."""
    deadline = time.monotonic() + BACK_SECONDS
    while time.monotonic() < deadline:
        info = supervision.states(settings)[name]
        if info["pid"] not in (0, not_pid):
            try:
                probes.is_ready(settings, name, ports.read(settings), info["pid"], info["start"])
                return info["pid"]
            except probes.NotReady:
                pass
        time.sleep(0.3)
    pytest.fail(f"{name} did not come back within {BACK_SECONDS} s")


def test_every_service_is_ready(stack: Settings) -> None:
    assert {one.name for one in services.status(stack) if one.ready} == set(programs.embedded(stack))


def test_up_on_running_services_changes_no_process(stack: Settings) -> None:
    services.up(stack, silent)
    before = pids(stack)
    services.up(stack, silent)
    assert pids(stack) == before


@pytest.mark.parametrize("name", ["clickhouse", "mlflow"])
def test_a_killed_service_comes_back(stack: Settings, name: str) -> None:
    before = pids(stack)
    pid = before[name]
    assert pid is not None
    psutil.Process(pid).kill()
    after = wait_ready(stack, name, not_pid=pid)
    assert after != pid
    assert {n: p for n, p in pids(stack).items() if n != name} == {n: p for n, p in before.items() if n != name}


def test_everything_listens_on_this_machine_only(stack: Settings) -> None:
    sockets = doctor.listening(stack)
    expected = {
        ports.read(stack)[ports.PORT_NAMES.get(n, n)] for n in programs.embedded(stack) if n != "dagster-daemon"
    }
    assert {port for _, port, _ in sockets} >= expected
    assert not [(address, port, who) for address, port, who in sockets if not doctor.is_loopback(address)]


def test_no_secret_is_readable_by_others_or_in_a_command_line(stack: Settings) -> None:
    password = stack.services_dir / "clickhouse.password"
    assert password.stat().st_mode & 0o777 == 0o600
    secret = password.read_text().strip()
    holders = [file for file in stack.services_dir.rglob("*") if file.is_file() and _holds(file, secret)]
    assert {file.stat().st_mode & 0o077 for file in holders} == {0}
    assert not [p.pid for p in leftovers.processes_of(stack.home) if secret in " ".join(p.cmdline())]


def _holds(file: Path, secret: str) -> bool:
    return secret.encode() in file.read_bytes()


def test_a_log_belongs_to_each_service(stack: Settings) -> None:
    for name in programs.embedded(stack):
        assert services.log_file(stack, name).exists()


def test_the_doctor_finds_nothing_wrong(stack: Settings) -> None:
    wrong = [f for f in doctor.doctor(stack) if not f.ok and not f.name.startswith("disk")]
    assert wrong == []


def test_what_is_at_rest_fits_a_laptop(stack: Settings) -> None:
    # 2.3 GB after a fresh start; the tests before have used the engines, whose heaps then stay grown.
    assert sum(one.memory_mb for one in services.status(stack)) < 6000
