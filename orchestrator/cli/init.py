"""`./assay init --empty`: a copy of this project without its domain, for who keeps the platform and brings feeds of their own.

Belongs here: what is domain, and how the copy is made. Does not belong here: what stands in the copy instead, which is in
empty/, each file where the copy has it.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from foundation.errors import AssayError
from foundation.settings import PROJECT

INSTEAD = Path(__file__).with_name("empty")
# The domain, and what is only about it: not in a copy. A `*` also stands for `/`.
DOMAIN = (
    "contracts/*",
    "intake/vendor.py",
    "spark_assets/silver/[!_]*.py",
    "dbt_project/macros/history_of_28_days.sql",
    "dbt_project/macros/plausible_wind.sql",
    "dbt_project/models/*.sql",
    "dbt_project/models/*.yml",
    "dbt_project/seeds/*",
    "dbt_project/analyses/*",
    "dbt_project/tests/every_*.sql",
    "dbt_project/tests/warehouse/*",
    "feature_repo/definitions.py",
    "feature_repo/service.py",
    "docs/decisions/0010-flight-times.md",
    "ml/drift.py",
    "ml/expectations.py",
    "ml/features.py",
    "ml/gate.py",
    "ml/pins.py",
    "ml/plots.py",
    "ml/predicting.py",
    "ml/promotion.py",
    "ml/registry.py",
    "ml/scoring.py",
    "ml/tables.py",
    "ml/serve/*",
    "ml/served_model.py",
    "ml/training.py",
    "ml/training_set.py",
    "orchestrator/assets/models.py",
    "orchestrator/assets/monitoring.py",
    # its commands: landing, demo, serving, drift, and this one
    "orchestrator/cli/demo.py",
    "orchestrator/cli/drift.py",
    "orchestrator/cli/landing.py",
    "orchestrator/cli/models.py",
    "orchestrator/cli/serve.py",
    "orchestrator/cli/init.py",
    "orchestrator/cli/empty/*",
    # tests of it, or on its files
    "tests/end_to_end/test_*.py",
    "tests/integration/small_lake.py",
    "tests/integration/test_drift.py",
    "tests/integration/test_features.py",
    "tests/integration/test_models.py",
    "tests/integration/test_serving.py",
    "tests/integration/airports.py",
    "tests/integration/gold_oracle.py",
    "tests/integration/test_analyst.py",
    "tests/integration/test_gold.py",
    "tests/integration/test_kills.py",
    "tests/integration/test_lake.py",
    "tests/integration/test_maintenance.py",
    "tests/integration/test_rollback.py",
    "tests/integration/test_warehouse.py",
    "tests/integration/whole_year/*",
    "tests/unit/test_column_lineage.py",
    "tests/unit/test_describe.py",
    "tests/unit/test_dbt_targets.py",
    "tests/unit/test_domain.py",
    "tests/unit/test_gate.py",
    "tests/unit/test_lineage.py",
    "tests/unit/test_promotion.py",
    "tests/unit/test_timeline.py",
    "tests/integration/test_init.py",
    "tests/unit/test_vendor.py",
    # they measure and show it
    "bench/*",
    "docs/images/*",
    "docs/ml.md",
)
# Words of the domain. In a copy they stand in these files only; a test holds that.
WORDS = re.compile(r"flight|carrier|airport|airline|aircraft|\bplanes?\b|arrival.delay|nycflights", re.IGNORECASE)
MENTIONED = {
    "README.md": "says why the package of pyproject.toml is there",
    "docs/*.md": "the pages explain by example, and each says first that the example is not in the copy",
    "docs/decisions/*.md": "what was measured when it was decided",
    "orchestrator/cli/main.py": "help texts name a feed, as an example",
    "pyproject.toml": "the domain's package stays, so that the lock, its hashes and what was tested with them stay",
    "requirements.lock": "as above",
}
NOTE = "> The examples on this page are of flights: the domain of the project that this one was copied from, without it.\n\n"
ONLY_HERE = re.compile(
    r"^## (?:Your own domain|A platform of your own)\n.*?(?=^## |\Z)|^!\[[^\n]*\n", re.MULTILINE | re.DOTALL
)


def copy_without_domain(folder: Path) -> None:
    """Makes the copy and says what comes next. The folder appears whole or not at all.

    Raises:
        AssayError: the folder holds something, or is part of this project; nothing was written.
    """
    target = folder.expanduser().resolve()
    if target.is_relative_to(PROJECT):
        raise AssayError(
            f"{target} is in this project, which would take the copy for a part of itself",
            f"name a folder beside it: ./assay init --empty {PROJECT.parent / (target.name or 'platform')}",
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise AssayError(f"{target} is there, and not an empty folder", "name one that is not there, or empty it")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        _fill(part)
        part.chmod(0o755)
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{target} is the platform without flights. Next:")
    print(f"  cd {target} && git init")
    print("  ./assay test tests/unit     its own tests; the first ./assay makes its .venv")
    print("  README.md                   the first feed, step by step")


def refusal(folder: Path | None) -> AssayError:
    """What `./assay init` answers if it was not told enough."""
    return AssayError(
        "init makes a copy of the platform without its domain, the flights of 2013; it does nothing else, and to nothing here",
        f"type ./assay init --empty {folder or 'FOLDER'}, with a folder that is not there, or empty",
    )


def _fill(folder: Path) -> None:
    for path in shipped():
        if not any(fnmatch(path, pattern) for pattern in DOMAIN):
            _copy(PROJECT / path, folder / path)
    for file in INSTEAD.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            _copy(file, folder / file.relative_to(INSTEAD))
    for page in folder.glob("docs/*.md"):
        heading, _, text = page.read_text(encoding="utf-8").partition("\n\n")
        text = ONLY_HERE.sub("", text)
        page.write_text(f"{heading}\n\n{NOTE * bool(WORDS.search(text))}{text}", encoding="utf-8")
    # Imported late: a command that is refused needs no Spark schemas.
    from orchestrator.dbt_sources import FILE, feed_sources

    sources = folder / FILE.relative_to(PROJECT)
    sources.parent.mkdir(parents=True)
    sources.write_text(feed_sources({}), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def shipped(folder: Path = PROJECT) -> Iterator[str]:
    """The project's files, without what .gitignore names; relative paths."""
    ignored = [".git", *(line.strip("/") for line in (PROJECT / ".gitignore").read_text().splitlines() if line)]
    for entry in sorted(folder.iterdir()):
        path = entry.relative_to(PROJECT).as_posix()
        if entry.is_symlink() or any(fnmatch(entry.name, name) or fnmatch(path, name) for name in ignored):
            continue
        if entry.is_dir():
            yield from shipped(entry)
        else:
            yield path
