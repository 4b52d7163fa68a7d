"""Example 04, the diffusion model behind HTTP: on its own, and on a yard."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gpuyard.building.workdir.application import read_application
from tests.e2e.conftest import Yard, own_yard, stopped_yard
from tests.examples.test_scripts import EXAMPLES, PYTHON, _torch, clean_env
from tests.waiting import until

__all__ = ["_torch", "own_yard", "stopped_yard"]

_TIMEOUT_S = 120
#: Enough for pictures that one can read.
_STEPS = "200"
#: Says how many of 100 pictures are most like the digit that was asked for.
_READ = """
import diffusion, torch
network = diffusion.load(torch.device("cpu"))
digits = list(range(10)) * 10
mean = diffusion.make_pictures(torch.arange(10).repeat(100), torch.Generator().manual_seed(2))
mean = mean.view(100, 10, -1).mean(0)
drawn = diffusion.sample(network, digits, seed=3).flatten(1)
of = lambda x: torch.nn.functional.normalize(x - x.mean(1, keepdim=True))
print((of(drawn) @ of(mean).T).argmax(1).eq(torch.tensor(digits)).sum().item())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example, without what a run leaves in it."""
    leave = shutil.ignore_patterns("weights.pt", "gpuyard.lock", "__pycache__")
    return shutil.copytree(EXAMPLES / "04-serve", tmp_path / "04-serve", ignore=leave)


class Served:
    """The server as a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = int(self.wait_for("Listening on ").rpartition(":")[2])

    def wait_for(self, start: str) -> str:
        """The next line that starts so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line.strip()
        raise AssertionError(f"it ended without {start!r}")

    def end(self) -> str:
        """Sends SIGTERM; the rest of what it prints, once it has ended well."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=_TIMEOUT_S)
        assert self.process.returncode == 0
        return out


@contextmanager
def serving(folder: Path, steps: str = _STEPS) -> Iterator[Served]:
    env = clean_env(PORT="0", HOST="127.0.0.1", TRAIN_STEPS=steps)
    process = subprocess.Popen(
        [PYTHON, "serve.py"], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        try:
            yield Served(process)
        finally:
            process.kill()


def ask(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.torch
def test_it_trains_serves_and_loads_what_it_trained(folder: Path) -> None:
    with serving(folder) as served:
        assert ask(served.port, "/readyz")[0] == ask(served.port, "/generate")[0] == 503
        assert served.wait_for("Using device: ") == "Using device: cpu"
        served.wait_for("There are no weights: training")
        served.wait_for("Ready")
        assert ask(served.port, "/readyz") == (200, b"ready\n")
        status, first = ask(served.port, "/generate?n=2&seed=1&digit=7")
        answer = json.loads(first)
        assert (status, answer["seed"], answer["digits"]) == (200, 1, [7, 7])
        assert {len(row) for image in answer["images"] for row in image} == {12}
        assert answer["images"][0] != answer["images"][1]
        assert served.end().endswith("Stopped\n")
    with serving(folder) as served:
        served.wait_for("Loading weights.pt")
        served.wait_for("Ready")
        assert ask(served.port, "/generate?n=2&seed=1&digit=7") == (200, first)
        assert ask(served.port, "/generate?n=2&seed=2&digit=7") != (200, first)
        status, picture = ask(served.port, "/generate.png?n=10")
        assert (status, picture[:8]) == (200, b"\x89PNG\r\n\x1a\n")
        for wrong in ("n=0", "n=65", "n=x", "seed=-1", "digit=10", "m=1"):
            status, message = ask(served.port, f"/generate?{wrong}")
            assert (status, message.startswith(wrong[0].encode()) or b"unknown: m" in message) == (400, True)
        assert ask(served.port, "/")[0] == 404
    right = subprocess.run(
        [PYTHON, "-c", _READ], cwd=folder, env=clean_env(), capture_output=True, text=True, check=True
    )
    assert int(right.stdout) >= 80


@pytest.mark.torch
def test_it_ends_in_the_middle_of_a_training_and_leaves_no_weights(folder: Path) -> None:
    with serving(folder, steps="1000000") as served:
        served.wait_for("There are no weights: training")
        assert served.end() == "Stopped\n"
    assert not list(folder.glob("weights*"))


@pytest.mark.slow
@pytest.mark.torch
def test_it_serves_on_a_yard_until_it_is_stopped(folder: Path, own_yard: Yard) -> None:
    said = own_yard.ok("serve", "-f", str(folder / "gpuyard.yaml"), "--env", "TRAIN_STEPS=20", "-o", "json")
    address = urlsplit(json.loads(said)["address"])
    assert (address.hostname, address.port) != (None, None)
    status, answer = ask(address.port or 0, "/generate?n=3", address.hostname or "")
    assert (status, json.loads(answer)["digits"]) == (200, [0, 1, 2])

    def printed(line: str) -> int:
        return sum(line in each for each in own_yard.ok("logs", "serve").splitlines())

    assert printed("Using device: cpu (the GPUs are simulated)") == printed("Ready") == 2
    [service] = own_yard.json("ps")
    assert (service["name"], service["replicas"]["ready"]) == ("serve", 2)
    own_yard.ok("stop", "serve")
    # Where there is no replica, the proxy has nobody to ask.
    until(lambda: own_yard.json("show", "serve")["state"] == "stopped", "it is stopped")


def test_weights_go_into_an_image_and_not_into_git(folder: Path) -> None:
    (folder / "weights.pt").touch()
    (folder / "gpuyard.lock").touch()
    names = [name for name, _ in read_application(folder, os.environ).files]
    assert "weights.pt" in names and "serve.py" in names and "gpuyard.lock" not in names
    assert (folder / ".gitignore").read_text().split() == ["gpuyard.lock", "weights.pt"]
