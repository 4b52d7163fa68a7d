from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.kubelet.host_names import HostNames, with_addresses


def pod(name: str, namespace: str = "ml", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}"},
        "spec": {"hostname": name, "subdomain": "train", **spec},
    }


@pytest.fixture
def names(tmp_path: Path) -> HostNames:
    (tmp_path / "etc-hosts").write_text("127.0.0.1 localhost\n::1 localhost")
    return HostNames(tmp_path / "hosts", tmp_path / "etc-hosts")


def test_each_pod_of_a_service_is_in_the_file_of_all(names: HostNames) -> None:
    for index in (0, 1, 1, 0):
        names.note(None, pod(f"train-{index}"))
    names.note(None, pod("train-0", "other"))
    file = names.hosts_file(pod("train-1"))
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.read_text().splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost",
        *(
            f"127.0.0.1\ttrain-{n}.train.ml.svc.cluster.local train-{n}.train.ml.svc train-{n}.train.ml "
            f"train-{n}.train train-{n}"
            for n in (0, 1)
        ),
    ]


def test_the_file_that_is_being_read_grows(names: HostNames) -> None:
    names.note(None, pod("train-0"))
    file = names.hosts_file(pod("train-0"))
    assert file is not None
    with file.open() as reader:
        before = reader.read()
        names.note(None, pod("train-1"))
        assert "train-1" not in before
        assert "train-1.train" in reader.read()


def test_it_goes_with_the_last_pod_and_comes_again(names: HostNames) -> None:
    first, second = pod("train-0"), pod("train-1")
    for one in (first, second):
        names.note(None, one)
    names.note(first, None)
    assert names.hosts_file(second)
    names.note(second, None)
    names.note(second, None)
    assert names.hosts_file(second) is None
    names.note(None, first)
    assert names.hosts_file(first)


def test_most_pods_have_none(names: HostNames) -> None:
    for missing in ("hostname", "subdomain"):
        one = pod("a")
        del one["spec"][missing]
        names.note(None, one)
        assert names.hosts_file(one) is None


def test_without_mounts_variables_have_the_address() -> None:
    others = {"X": "a-train-0.trainer", "Y": "x.train-0.train.org"}
    environment = {"MASTER_ADDR": "train-0.train", "GPUYARD_GANG": "2 train-0.train 1 9", **others}
    found = with_addresses(environment, pod("train-1"))
    assert found == {**environment, "MASTER_ADDR": "127.0.0.1", "GPUYARD_GANG": "2 127.0.0.1 1 9"}
    assert with_addresses(environment, pod("a", subdomain=None)) == environment
