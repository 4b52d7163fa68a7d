"""What a spec and `--volume` may say of volumes."""

from __future__ import annotations

import pytest

from gpuyard.errors import SpecError
from gpuyard.workloads.spec.overrides import Flag, FlagForm
from gpuyard.workloads.spec.run_spec import load_spec
from gpuyard.workloads.spec.volumes import Volume


def volumes(text: str, *flags: str) -> tuple[Volume, ...]:
    laid = [Flag("--volume", ("volumes",), flag, FlagForm.ENTRY_ONCE) for flag in flags]
    return load_spec(f"run: 'true'\n{text}", "spec", laid, {}).volumes


def problems(text: str, *flags: str) -> list[str]:
    with pytest.raises(SpecError) as raised:
        volumes(text, *flags)
    return [problem.message for problem in raised.value.problems]


def test_each_form() -> None:
    text = """
volumes:
  /ckpt/: ./ckpt
  /data: imagenet:ro
  /home/me/x: ~/a:b:ro
  /out: {claim: results, size: 100Gi, storage_class: fast}
  /log: {folder: /var/log/x, read_only: true}
"""
    assert volumes(text, "/data=other:rw") == (
        Volume("/ckpt", folder="./ckpt"),
        Volume("/data", claim="other"),
        Volume("/home/me/x", folder="~/a:b", read_only=True),
        Volume("/log", folder="/var/log/x", read_only=True),
        Volume("/out", claim="results", size="100Gi", storage_class="fast"),
    )


@pytest.mark.parametrize(
    "path", ["/", "/usr", "/usr/", "/dev/shm", "/proc/1", "/sys/x", "/tmp", "/etc/gpuyard"]
)
def test_a_folder_that_the_system_needs_is_refused(path: str) -> None:
    [problem] = problems("", f"{path}=data")
    assert "a folder that the system needs" in problem


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("data=x", "must be an absolute path"),
        ("/a/../b=x", "must not go up"),
        ("/a:b=x", "must not have a colon"),
        ("/a=X_y", "neither a claim nor a folder"),
        ("/a=", "neither a claim nor a folder"),
        ("/a", "has no value"),
    ],
)
def test_a_wrong_flag_is_told(flag: str, said: str) -> None:
    [problem] = problems("", flag)
    assert said in problem


def test_a_place_is_taken_once() -> None:
    assert problems("", "/a=x", "/a=y") == ["/a is given twice; say once what belongs there"]
    assert problems("", "/a=x", "/a/=y") == ["/a/ is the same place as /a; one volume can be mounted there"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("{size: 1Gi}", "needs either `claim` or `folder`"),
        ("{claim: a, folder: ./b}", "needs either `claim` or `folder`"),
        ("{folder: ./b, size: 1Gi}", "a folder has no size"),
        ("{claim: a, storage_class: fast}", "add its size"),
        ("{claim: a, size: 1GB}", "is not a Kubernetes quantity"),
        ("{claim: A_b}", "can't be its name"),
        ("{claim: a, read_only: maybe}", "neither true nor false"),
        ("[a]", "must be text"),
    ],
)
def test_keys_that_do_not_agree_are_told(keys: str, said: str) -> None:
    [problem] = problems(f"volumes:\n  /a: {keys}\n")
    assert said in problem


def test_a_claim_has_one_size() -> None:
    text = "volumes:\n  /a: {claim: c, size: 1Gi}\n  /b: {claim: c, size: 2Gi}\n"
    assert problems(text) == ["claim c has another size above; say it once"]
