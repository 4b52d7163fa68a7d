import pytest

from gpuyard.local.kubelet.back_off import BackOff
from gpuyard.local.kubelet.image_pulls import CannotGet, Images, Pull, resolve_name
from gpuyard.local.runtime.podman.host import Podman, PodmanImage

NOW = 1000.0


@pytest.mark.parametrize(
    ("name", "full", "plain_http"),
    [
        ("debian", "docker.io/library/debian:latest", False),
        ("ghcr.io/a/b:c", "ghcr.io/a/b:c", False),
        (f"ghcr.io/a/b:c@sha256:{'0' * 64}", f"ghcr.io/a/b@sha256:{'0' * 64}", False),
        ("localhost:5000/a:b", "localhost:5000/a:b", True),
        ("127.8.9.1:5000/a:b", "127.8.9.1:5000/a:b", True),
        ("[::1]:5000/a:b", "[::1]:5000/a:b", True),
        ("10.0.0.1:5000/a:b", "10.0.0.1:5000/a:b", False),
        ("localhost.evil.com/a:b", "localhost.evil.com/a:b", False),
        ("oci:/folder:tag", "oci:/folder:tag", False),
    ],
)
def test_names(name: str, full: str, plain_http: bool) -> None:
    assert resolve_name(name) == (full, plain_http)


@pytest.mark.parametrize("name", ["Upper/Case", "a b", "oci:folder", "a@sha256:1"])
def test_wrong_names(name: str) -> None:
    with pytest.raises(CannotGet) as caught:
        resolve_name(name)
    assert caught.value.reason == "InvalidImageName"


async def test_without_podman() -> None:
    with pytest.raises(CannotGet) as caught:
        await Images(Podman(None, "yard")).get("debian", "Always")
    assert caught.value.reason == "CreateContainerError"
    assert "podman isn't installed on this machine: install podman" in caught.value.message


def test_tries_come_later_each_time_until_one_succeeds() -> None:
    pull, now = Pull(), NOW
    for delay_s in (10, 20, 40, 80, 160, 300, 300):
        assert pull.backed_off("a:b", now) is None
        pull.failed(CannotGet("ErrImagePull", "why"), BackOff(), now)
        assert pull.retry_at_s == now + delay_s
        assert pull.backed_off("a:b", pull.retry_at_s - 0.001) == (
            "ImagePullBackOff", 'Back-off pulling image "a:b": ErrImagePull: why',
        )  # fmt: skip
        now = pull.retry_at_s
    pull.succeeded(PodmanImage("id", "a@sha256:0"))
    assert (pull.is_due, pull.backed_off("a:b", NOW)) == (False, None)


def test_what_no_pull_mends_keeps_its_reason() -> None:
    pull = Pull()
    pull.failed(CannotGet("ErrImageNeverPull", "why"), BackOff(), NOW)
    assert pull.backed_off("a:b", NOW) == ("ErrImageNeverPull", "why")
