"""What befalls a data folder: each fault a message that names the thing and the remedy; nothing is lost."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small_disk import mounted
from tests.waiting import until

from .conftest import Refused, Yard, make_yard

MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, size: int = 1) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x" * size}}


def test_settings_that_are_no_json(stopped_yard: Yard) -> None:
    stopped_yard.paths.settings.write_text('{"simulate": "H100:8", ')
    for arguments in (("up",), ("run", "--", "true")):
        said = stopped_yard.refused(1, *arguments)
        assert str(stopped_yard.paths.settings) in said and "remove" in said
    stopped_yard.paths.settings.unlink()
    stopped_yard.ok("up")


@pytest.mark.parametrize("text", ["[]", '"text"', '{"port": "many"}', '{"simulate": "H1OO:8"}', "\udcff"])
def test_settings_that_mean_nothing(stopped_yard: Yard, text: str) -> None:
    stopped_yard.paths.settings.write_bytes(text.encode(errors="surrogateescape"))
    result = stopped_yard.call("up")
    assert result.code in (1, 2), result
    assert str(stopped_yard.paths.settings) in result.err or "H1OO" in result.err
    assert "stopped" in stopped_yard.refused(1, "ps")


def test_a_damaged_database_is_left_as_it_is(own_yard: Yard) -> None:
    own_yard.ok("run", "--", "true")
    own_yard.ok("down")
    file = own_yard.paths.database
    sound = file.read_bytes()
    for broken in (
        b"this is no database\n" * 1000,
        sound[:4096] + bytes(len(sound) - 4096),  # empty pages
        sound[: len(sound) // 2 // 4096 * 4096],
    ):
        file.write_bytes(broken)
        said = own_yard.refused(1, "up")
        assert str(file) in said and "damaged" in said
        assert file.read_bytes() == broken
    # With the file as it was, everything is there again.
    file.write_bytes(sound)
    own_yard.ok("up")
    assert [run["state"] for run in own_yard.json("ps")] == ["succeeded"]


def test_objects_that_can_not_be_read_are_set_aside_and_named(own_yard: Yard) -> None:
    own_yard.ok("run", "-n", "good", "--", "true")
    own_yard.ok("run", "-n", "bad", "--", "true")
    node = own_yard.status()["node"]
    own_yard.ok("down")
    with contextlib.closing(sqlite3.connect(own_yard.paths.database)) as database, database:
        damage(database, "jobs.batch", "bad", b"this is no JSON")
        (pod,) = database.execute(
            "SELECT name FROM objects WHERE resource = 'pods' AND name LIKE 'bad-%'"
        ).fetchone()
        damage(database, "pods", pod, b'"nodeName":"', b'"nodeName":["odd"],"odd":"')
        event = database.execute("SELECT name FROM objects WHERE resource = 'events'").fetchone()[0]
        damage(database, "events", event, b'"lastTimestamp":"20', b'"lastTimestamp":"5-0')
        damage(database, "nodes", node, b'"conditions":[', b'"conditions":["odd",')
    own_yard.ok("up", "--simulate", "H100:8")
    assert "good" in own_yard.ok("ps", "-a")
    own_yard.ok("run", "--gpus", "1", "--", "true")
    (objects,) = (c for c in own_yard.json("doctor")["checks"] if c["name"] == "objects")
    assert objects["outcome"] == "warning"
    assert "Job default/bad: " in objects["message"] and f"Node {node}: " in objects["message"]
    # Nothing of it is heard of again once it is gone.
    own_yard.ok("down")
    own_yard.ok("up", "--simulate", "H100:8")
    own_yard.ok("run", "--gpus", "1", "--", "true")


def damage(database: sqlite3.Connection, resource: str, name: str, *change: bytes) -> None:
    """Replaces the newest row of an object by another value, or a part of it by another."""
    revision, value = database.execute(
        "SELECT revision, value FROM objects WHERE resource = ? AND name = ? ORDER BY revision DESC",
        (resource, name),
    ).fetchone()
    assert len(change) == 1 or change[0] in value, value
    damaged = value.replace(*change) if len(change) == 2 else change[0]
    database.execute("UPDATE objects SET value = ? WHERE revision = ?", (damaged, revision))


def test_a_lost_token_is_made_anew(own_yard: Yard) -> None:
    old = own_yard.paths.token.read_text()
    own_yard.ok("down")
    own_yard.paths.token.unlink()
    own_yard.paths.kubeconfig.unlink()
    own_yard.ok("up")
    assert own_yard.paths.token.read_text() not in ("", old)
    assert own_yard.paths.token.stat().st_mode & 0o777 == 0o600
    assert _status_over_https(own_yard, own_yard.paths.token.read_text().strip()) == 200
    assert _status_over_https(own_yard, old.strip()) == 401


def test_lost_keys_are_made_anew(own_yard: Yard) -> None:
    own_yard.ok("down")
    shutil.rmtree(own_yard.paths.pki_dir)
    own_yard.ok("up")
    assert _status_over_https(own_yard, own_yard.paths.token.read_text().strip()) == 200


def _status_over_https(yard: Yard, token: str) -> int:
    request = urllib.request.Request(
        f"{yard.status()['api']}{MAPS}", headers={"Authorization": f"Bearer {token}"}
    )
    trust = ssl.create_default_context(cafile=str(yard.paths.pki_dir / "ca.crt"))
    try:
        with urllib.request.urlopen(request, context=trust, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.fixture
def other_user() -> Iterator[tuple[str, ...]]:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    nobody = pwd.getpwnam("nobody")
    yield ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")


def test_a_data_folder_without_write_permission(stopped_yard: Yard, other_user: tuple[str, ...]) -> None:
    stopped_yard.home.chmod(0o755)
    stopped_yard.work.chmod(0o755)
    stopped_yard.prefix = other_user
    try:
        _needs_our_code(stopped_yard)
        for arguments in (("up",), ("run", "--", "true")):
            said = stopped_yard.refused(1, *arguments)
            assert str(stopped_yard.home) in said
            assert "GPUYARD_HOME" in said
        assert list(stopped_yard.home.iterdir()) == []
    finally:
        stopped_yard.prefix = ()


def test_somebody_else_s_yard(own_yard: Yard, other_user: tuple[str, ...]) -> None:
    own_yard.home.chmod(0o755)
    own_yard.work.chmod(0o755)
    pid = own_yard.status()["daemon_pid"]
    own_yard.prefix = other_user
    try:
        _needs_our_code(own_yard)
        for arguments in (("ps",), ("status",), ("up",), ("down", "--keep"), ("run", "--", "true")):
            own_yard.refused(1, *arguments)
    finally:
        own_yard.prefix = ()
    assert own_yard.status()["daemon_pid"] == pid


def _needs_our_code(yard: Yard) -> None:
    """Another user can't read a checkout or an interpreter in root's home."""
    try:
        started = yard.start("--version").finish()
    except (AssertionError, PermissionError):
        pytest.skip("another user can't read this checkout")
    if started.code != 0:
        pytest.skip(f"another user can't run this checkout: {started.err}")


def test_a_data_folder_that_is_a_file(stopped_yard: Yard) -> None:
    stopped_yard.home.rmdir()
    stopped_yard.home.write_text("not a folder")
    said = stopped_yard.refused(1, "up")
    assert str(stopped_yard.home) in said and "GPUYARD_HOME" in said
    stopped_yard.home.unlink()


def test_a_very_long_data_folder(stopped_yard: Yard) -> None:
    """A socket's path has at most 107 bytes; the data folder's may have more."""
    long = stopped_yard.home / ("x" * 100) / ("y" * 100)
    stopped_yard.environ["GPUYARD_HOME"] = str(long)
    try:
        assert stopped_yard.ok("run", "--", "echo", "hi") == "hi\n"
        assert stopped_yard.status()["data_dir"] == str(long)
        stopped_yard.ok("down", "--stop")
    finally:
        stopped_yard.environ["GPUYARD_HOME"] = str(stopped_yard.home)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own with a few megabytes; a test can ask for another number."""
    with mounted("tmpfs", getattr(request, "param", 24)) as folder:
        yield folder


@pytest.fixture
def small_yard(small_disk: Path) -> Iterator[Yard]:
    with make_yard() as yard:
        shutil.rmtree(yard.home)
        yard.home = small_disk / "home"
        yard.home.mkdir()
        yard.environ["GPUYARD_HOME"] = str(yard.home)
        yield yard


def fill(file: Path, size: int = 2**30) -> None:
    """Takes this many bytes, or every last one."""
    with file.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        for _ in range(size // 4096):
            stream.write(b"x" * 4096)


def test_a_disk_that_is_full_from_the_start(small_yard: Yard, small_disk: Path) -> None:
    fill(small_disk / "ballast")
    said = small_yard.refused(1, "up", "--simulate", "H100:8")
    assert "space" in said and str(small_yard.home) in said
    (small_disk / "ballast").unlink()
    small_yard.ok("up", "--simulate", "H100:8")


def test_a_disk_that_fills_up(small_yard: Yard, small_disk: Path) -> None:
    fill(small_disk / "ballast", 2**20)
    small_yard.ok("up", "--simulate", "H100:8")
    made = set()
    with pytest.raises(Refused) as refused:
        for number in range(10_000):
            small_yard.api("POST", MAPS, config_map(f"map-{number}", 20_000))
            made.add(f"map-{number}")
    code, status = refused.value.args
    assert (code, status["reason"]) == (507, "InsufficientStorage")
    assert f"no space left on the disk that holds {small_yard.home}" in status["message"]

    # The database's log may still have room for a little: a run is refused, or waits for space.
    submitted = small_yard.call("run", "-d", "-n", "too-much", "--", "true")
    assert submitted.code == 0 or "no space left" in submitted.err
    # Looking is possible, also after a start without any space.
    small_yard.kill_daemon()
    small_yard.ok("up")
    assert len(small_yard.json("ps")) == (submitted.code == 0)
    assert small_yard.json("nodes")[0]["gpus"] == 8

    (small_disk / "ballast").unlink()
    assert {item["metadata"]["name"] for item in small_yard.api("GET", MAPS)["items"]} >= made
    small_yard.api("POST", MAPS, config_map("after"))
    assert small_yard.ok("run", "-n", "after", "--gpus", "1", "--", "echo", "goes on") == "goes on\n"
    if submitted.code == 0:
        small_yard.wait_for("too-much", "succeeded")


@pytest.mark.parametrize("small_disk", [128], indirect=True)
def test_what_is_there_can_be_deleted_on_a_full_disk(small_yard: Yard, small_disk: Path) -> None:
    small_yard.ok("up", "--simulate", "H100:8")
    small_yard.background("running", "--gpus", "8", "--", "sleep", "600")
    held = {**config_map("held"), "metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    for manifest in (config_map("plain"), held):
        small_yard.api("POST", MAPS, manifest)
    fill(small_disk / "ballast")
    for number in range(1_000):
        try:
            small_yard.api("POST", MAPS, config_map(f"map-{number}", 20_000))
        except Refused as refused:
            assert refused.args[0] == 507
            break
    else:
        pytest.fail("the disk isn't full")

    # Removed at once, marked for who holds it, and marked for the kubelet, which ends the process.
    small_yard.api("DELETE", f"{MAPS}/plain")
    assert small_yard.api("DELETE", f"{MAPS}/held")["metadata"]["deletionTimestamp"]
    freed = {**small_yard.get(f"{MAPS}/held")}
    freed["metadata"]["finalizers"] = []
    small_yard.api("PUT", f"{MAPS}/held", freed)
    pods = "/api/v1/namespaces/default/pods"
    assert len(small_yard.get(pods)["items"]) == 1
    jobs = "/apis/batch/v1/namespaces/default/jobs"
    small_yard.api("DELETE", f"{jobs}/running", {"propagationPolicy": "Foreground"})
    until(lambda: not small_yard.get(jobs)["items"] + small_yard.get(pods)["items"], "the run is gone")
    assert not {"plain", "held"} & {item["metadata"]["name"] for item in small_yard.get(MAPS)["items"]}
    with pytest.raises(Refused):
        small_yard.api("POST", MAPS, config_map("more", 500_000))
    (small_disk / "ballast").unlink()
