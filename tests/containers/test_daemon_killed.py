"""kill -9 of the daemon under a container, from the command line."""

from __future__ import annotations

from tests.containers.conftest import Tiny
from tests.e2e.conftest import Yard, own_yard, stopped_yard

__all__ = ["own_yard", "stopped_yard"]

#: Counts until it may end.
_STEADY = (
    "i=0; until ls /tmp/end >/dev/null; do i=$((i+1)); echo $i; sleep 0.02; done 2>/dev/null; "
    "echo last; exit 5"
)


def _let_end(yard: Yard, name: str) -> None:
    pods = yard.api("GET", f"/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run={name}")["items"]
    _let_end_pod(yard, str(pods[0]["metadata"]["uid"]))


def _let_end_pod(yard: Yard, uid: str) -> None:
    (yard.paths.pods_dir / uid / "volumes.d/tmp/end").touch()


def _assert_complete(lines: list[str]) -> None:
    numbers = [line for line in lines if line.isdecimal()]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert lines[-1] == "last"


def test_a_container_goes_on_and_is_adopted(own_yard: Yard, tiny: Tiny) -> None:
    own_yard.background("steady", "--image", tiny.reference, "--gpus", "2", "--", "/bin/sh", "-c", _STEADY)
    own_yard.wait_for_line("steady", "10")
    own_yard.kill_daemon()
    assert "1 of its runs goes on (pod steady-" in own_yard.refused(1, "ps")
    own_yard.ok("up")
    assert own_yard.state("steady")["state"] == "running"
    _let_end(own_yard, "steady")
    own_yard.wait_for("steady", "failed")
    found = own_yard.state("steady")["attempts"][0]
    assert (found["exit_code"], found["isolation"]) == (5, "podman")
    _assert_complete(own_yard.ok("logs", "steady").splitlines())


def test_what_ended_meanwhile_is_known(own_yard: Yard, tiny: Tiny) -> None:
    own_yard.background("steady", "--image", tiny.reference, "--", "/bin/sh", "-c", _STEADY)
    own_yard.wait_for_line("steady", "10")
    (folder,) = own_yard.paths.pods_dir.iterdir()
    own_yard.kill_daemon()
    _let_end_pod(own_yard, folder.name)
    own_yard.ok("up")
    own_yard.wait_for("steady", "failed")
    assert own_yard.state("steady")["attempts"][0]["exit_code"] == 5
    _assert_complete(own_yard.ok("logs", "steady").splitlines())
