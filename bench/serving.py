"""How soon `./assay serve` answers, at a steady rate.

Belongs here: a client that sends when it is time, whether or not the last answer is there. Does not belong here: starting
services: the home it is given has a champion and features online (`./assay demo` leaves one), and is up.
"""

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PROJECT = Path(__file__).resolve().parents[1]
PER_SECOND = 50
SECONDS = 30
WARM_REQUESTS = 200


def serving(home: Path) -> None:
    """Prints percentiles of single flights at 50 requests a second, and of lists."""
    flights = _scheduled(home)
    with _served(home) as address:
        asyncio.run(_measure(address, flights))


def _scheduled(home: Path) -> list[dict[str, Any]]:
    """The newest day of the schedule, as requests."""
    import pyarrow.compute as pc

    from foundation.lake import load_table
    from foundation.settings import load
    from ml.serve.schema import ScheduledFlight

    table = (
        load_table(load(home), "silver", "schedule")
        .scan(selected_fields=tuple(ScheduledFlight.model_fields))
        .to_arrow()
    )
    newest = pc.max(table["flight_date"])  # pyright: ignore[reportAttributeAccessIssue]
    rows = table.filter(pc.equal(table["flight_date"], newest)).to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    return [{**row, "flight_date": str(row["flight_date"])} for row in rows]


@contextmanager
def _served(home: Path) -> Iterator[str]:
    command = [PROJECT / ".venv/bin/python", "-m", "orchestrator.cli", "serve", "--port", "0"]
    environment = {**os.environ, "ASSAY_HOME": str(home), "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=home) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if found := re.search(r"http://\S+?:\d+", line):
                    yield found[0]
                    return
            raise SystemExit("./assay serve did not start")
        finally:
            process.terminate()


async def _measure(address: str, flights: Sequence[dict[str, Any]]) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        for number in range(WARM_REQUESTS):
            (await client.post("/predict", json=flights[number % len(flights)])).raise_for_status()
        taken = await _at_a_steady_rate(client, flights)
        _print(f"a flight, {PER_SECOND} requests/s for {SECONDS} s", taken)
        for size in (10, 100, len(flights[:1000])):
            taken = []
            for _ in range(10):
                began = time.perf_counter()
                (await client.post("/predict", json=list(flights[:size]))).raise_for_status()
                taken.append(time.perf_counter() - began)
            _print(f"{size} flights in one request, one after another", taken)


async def _at_a_steady_rate(client: httpx.AsyncClient, flights: Sequence[dict[str, Any]]) -> list[float]:
    """Counted from the moment when the request was due: a server that falls behind is not asked less."""
    start = time.perf_counter() + 0.1

    async def ask(number: int) -> float:
        due = start + number / PER_SECOND
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        (await client.post("/predict", json=flights[number % len(flights)])).raise_for_status()
        return time.perf_counter() - due

    return await asyncio.gather(*(ask(number) for number in range(PER_SECOND * SECONDS)))


def _print(what: str, taken: Sequence[float]) -> None:
    ordered = sorted(taken)
    p50, p99 = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 for share in (0.5, 0.99))
    print(f"{what:<48} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   slowest {ordered[-1] * 1000:6.1f} ms")
