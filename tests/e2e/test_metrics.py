"""What a yard's GPUs do, as Prometheus reads it: with the yard's token, over its port on loopback."""

import json
import re
import ssl
import urllib.error
import urllib.request

import pytest

from tests.e2e.conftest import Yard
from tests.waiting import until


def scrape(yard: Yard, *, token: str | None = None) -> str:
    url = yard.status()["metrics"]
    context = ssl.create_default_context(cafile=str(yard.home / "pki/ca.crt"))
    request = urllib.request.Request(url)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, context=context) as answer:
        return str(answer.read().decode())


def test_metrics_follow_a_run_and_say_whose_its_gpus_are(yard: Yard) -> None:
    token = (yard.home / "token").read_text().strip()

    def lines(*parts: str) -> list[str]:
        text = scrape(yard, token=token)
        return [line for line in text.splitlines() if all(part in line for part in parts)]

    until(
        lambda: lines("gpuyard_gpu_info", 'simulated="true"'),
        "the exporter",
        lambda found: len(found) == 8,
        not_yet=(urllib.error.HTTPError,),
    )
    yard.ok("run", "-n", "busy", "-d", "--gpus", "2", "--", "sleep", "600")
    until(
        lambda: lines("DCGM_FI_DEV_GPU_TEMP", 'pod="busy-', 'scope="pod"'),
        "the run's two GPUs",
        lambda found: len(found) == 2,
    )
    assert lines("gpuyard_pod_energy_joules_total", 'pod="busy-')
    yard.ok("stop", "busy")
    until(lambda: lines("gpuyard_gpu_holders", "} 0"), "all GPUs free", lambda found: len(found) == 8)


def test_a_process_that_is_no_run_is_counted_on_its_gpu(yard: Yard) -> None:
    token, file = (yard.home / "token").read_text().strip(), yard.paths.simulated_health
    stranger = {"gpu": "3", "pid": 4711, "memory_mib": 21504, "user": "alice", "command": "python"}

    def counted(name: str) -> list[str]:
        found = re.findall(rf"^{name}{{.*gpu=\"(\d)\".*}} (\d+)$", scrape(yard, token=token), re.MULTILINE)
        return [f"{gpu}:{value}" for gpu, value in found if value != "0"]

    try:
        file.write_text(json.dumps({"processes": [stranger]}))
        until(
            lambda: counted("gpuyard_gpu_foreign_processes"),
            "the process",
            lambda found: found == ["3:1"],
            not_yet=(urllib.error.HTTPError,),
        )
        assert counted("gpuyard_gpu_foreign_process_memory_bytes") == [f"3:{21504 << 20}"]
    finally:
        file.unlink(missing_ok=True)
    until(lambda: counted("gpuyard_gpu_foreign_processes"), "it is gone", lambda found: not found)


def test_who_has_no_token_reads_nothing(yard: Yard) -> None:
    for token in (None, "0" * 64):
        with pytest.raises(urllib.error.HTTPError) as caught:
            scrape(yard, token=token)
        assert caught.value.code == 401
        assert json.loads(caught.value.read())["kind"] == "Status"
