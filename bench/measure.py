"""Measures what a person waits for. Prints a table; keeps nothing; leaves the home it is given stopped.

python bench/measure.py setup --folder EMPTY    .venv without and with uv's cache, runtimes without and with ours
python bench/measure.py up --home HOME          services until ready: cold, and when they are up already
python bench/measure.py line --home HOME        31 days and 364 days through the whole line, and their ratio
python bench/measure.py lake --home HOME        files to Silver: Dagster beside the same Spark statements bare; a day; 10 times
python bench/measure.py gold --home HOME        Gold and the warehouse (bench/warehouse.py); --part for one of its parts
python bench/measure.py features                features point in time and online (bench/features.py); no service
python bench/measure.py serving --home HOME     ./assay serve at 50 requests/s, on a home that is up and has a champion
python bench/measure.py expectations --home HOME  a day and the year of every table (bench/expectations.py), on a lake; no service
python bench/measure.py load --home HOME        the code location, beside Python with Dagster and dagster-dbt alone
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
ROUNDS = 5


def seconds(command: list[str | Path], **environment: str) -> float:
    """Wall time of a command that must succeed."""
    began = time.monotonic()
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, cwd=PROJECT)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return time.monotonic() - began


def setup(folder: Path) -> None:
    """A clone's first command, twice: with nothing cached, then with uv's and the runtimes' caches."""
    folder.mkdir(parents=True, exist_ok=True)
    caches = {"UV_CACHE_DIR": str(folder / "uv"), "ASSAY_CACHE": str(folder / "cache"), "PIP_NO_CACHE_DIR": "1"}
    times = []
    for number in (1, 2):
        clone = folder / f"clone{number}"
        subprocess.run(["git", "clone", "-q", PROJECT, clone], check=True)
        installed = seconds([clone / "assay", "--help"], **caches)
        fetch = "from pathlib import Path; from deploy.embedded import runtimes; runtimes.ensure(Path({!r}), print)"
        fetched = seconds(
            [clone / ".venv/bin/python", "-c", fetch.format(caches["ASSAY_CACHE"])], PYTHONPATH=str(clone)
        )
        times.append((installed, fetched))
        shutil.rmtree(clone)
    for label, (installed, fetched) in zip(("nothing cached", "caches full"), times, strict=True):
        print(f"{label:<16} packages {installed:6.1f} s   runtimes {fetched:6.1f} s")


def up(home: Path) -> None:
    """From nothing running to everything answering; then once more."""
    where = {"ASSAY_HOME": str(home)}
    first = seconds([PROJECT / "assay", "up"], **where)
    seconds([PROJECT / "assay", "down"], **where)
    cold = seconds([PROJECT / "assay", "up"], **where)
    again = seconds([PROJECT / "assay", "up"], **where)
    print(f"a new home {first:.1f} s   its second start {cold:.1f} s   already up {again:.1f} s")
    print(
        subprocess.run(
            [PROJECT / "assay", "status"], env={**os.environ, **where}, capture_output=True, text=True
        ).stdout
    )
    seconds([PROJECT / "assay", "down"], **where)


def line(home: Path) -> None:
    """The demo of 31 and of 364 days, on services that are up."""
    where = {"ASSAY_HOME": str(home)}
    seconds([PROJECT / "assay", "up"], **where)
    found: dict[int, float] = {}
    for days in (31, 364):
        done = subprocess.run(
            [PROJECT / "assay", "demo", "--days", str(days)],
            env={**os.environ, **where},
            capture_output=True,
            text=True,
        )
        print(done.stdout)
        match = re.search(r"Time (\d+) s", done.stdout)
        if not match:
            sys.exit(done.stderr)
        found[days] = float(match.group(1))
    seconds([PROJECT / "assay", "down"], **where)
    print(
        f"31 days {found[31]:.0f} s   364 days {found[364]:.0f} s   ratio {found[364] / found[31]:.1f} for 11.7 times the days"
    )


BARE = """
import sys, time
from datetime import date, timedelta
from foundation.contract import find_contract
from foundation.settings import load
from spark_assets.bronze import ingest
from spark_assets.publish import refine
from spark_assets.session import connect
settings, contract = load(), find_contract("flights")
days = [date(2013, 1, 1) + timedelta(days=number) for number in range(int(sys.argv[1]))]
with connect(settings) as spark:
    spark.sql("select 1").collect()
began = time.monotonic()
ingest(settings, contract, days, {})
refine(settings, contract, days, {})
print(time.monotonic() - began)
"""


def lake(home: Path) -> None:
    """Flights from files to Silver. Bare is the same statements without Dagster, Python's start not counted; Dagster's is the
    whole command."""
    where = {"ASSAY_HOME": str(home)}
    seconds([PROJECT / "assay", "up"], **where)
    seconds([PROJECT / "assay", "pause"], **where)
    seconds([PROJECT / "assay", "land", "airports"], **where)
    assets = "bronze/{0},silver/{0},quarantine/{0}"
    line = [PROJECT / "assay", "dagster", "asset", "materialize", "--select"]
    seconds([*line, assets.format("airports")], **where)
    seconds([PROJECT / "assay", "land", "flights", "2013-01-01", "2013-12-31"], **where)

    def bare(days: int) -> float:
        command = [PROJECT / ".venv/bin/python", "-c", BARE, str(days)]
        environment = {**os.environ, **where, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    def dagster(last: str) -> float:
        return seconds([*line, assets.format("flights"), "--partition-range", f"2013-01-01...{last}"], **where)

    bare(365)  # a JVM that has seen the code
    statements, whole = [], []
    for _ in range(2):
        statements.append(bare(365))
        whole.append(dagster("2013-12-31"))
    print(
        f"a year: bare {min(statements):.1f} s   the Dagster command {min(whole):.1f} s   "
        f"ratio {min(whole) / min(statements):.2f}"
    )
    print(f"a day, whole command: {min(dagster('2013-01-01') for _ in range(3)):.1f} s")
    few, many = min(bare(36) for _ in range(2)), min(bare(360) for _ in range(2))
    print(f"36 days {few:.1f} s   360 days {many:.1f} s   ratio {many / few:.1f} for 10 times the data")
    seconds([PROJECT / "assay", "resume"], **where)
    seconds([PROJECT / "assay", "down"], **where)


def load(home: Path) -> None:
    """Best of some rounds, the two alternating, so that a busy moment hits both."""
    where = {"ASSAY_HOME": str(home)}
    python = PROJECT / ".venv/bin/python"
    bare, whole = [], []
    for _ in range(ROUNDS):
        bare.append(seconds([python, "-c", "import dagster, dagster_dbt"], **where))
        whole.append(seconds([python, "-c", "import orchestrator.definitions"], **where))
    print(
        f"dagster and dagster-dbt {min(bare):.2f} s   code location {min(whole):.2f} s   ratio {min(whole) / min(bare):.2f}"
    )


def main() -> None:
    """Reads the arguments and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", choices=("setup", "up", "line", "lake", "gold", "features", "serving", "expectations", "load")
    )
    parser.add_argument("--home", type=Path, default=PROJECT / ".assay-bench")
    parser.add_argument("--folder", type=Path, default=PROJECT / ".assay-bench")
    parser.add_argument("--part", choices=("all", "year", "day", "edit", "load", "marts"), default="all")
    chosen = parser.parse_args()
    if chosen.what == "setup":
        setup(chosen.folder.resolve())
    elif chosen.what == "gold":
        from bench.warehouse import gold  # imports the project, which the others only start

        gold(chosen.home.resolve(), chosen.part)
    elif chosen.what == "features":
        from bench.features import features

        features()
    elif chosen.what == "serving":
        from bench.serving import serving

        serving(chosen.home.resolve())
    elif chosen.what == "expectations":
        from bench.expectations import expectations

        expectations(chosen.home.resolve())
    else:
        {"up": up, "line": line, "lake": lake, "load": load}[chosen.what](chosen.home.resolve())


if __name__ == "__main__":
    main()
