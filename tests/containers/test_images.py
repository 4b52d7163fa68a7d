"""Where images come from, and what is said when they don't."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpuyard.kube.objects import PODS, Manifest
from gpuyard.local.runtime.podman.host import Podman
from gpuyard.local.runtime.podman.layout_links import own_name
from gpuyard.local.runtime.runtimes import Runtimes
from tests.containers.conftest import ImageHost, Tiny


def _waiting(pod: Manifest) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
    return dict(statuses[0]["state"].get("waiting") or {})


async def _waits_for(host: ImageHost, reason: str) -> str:
    pod = await host.until("p", lambda pod: _waiting(pod).get("reason") == reason)
    assert pod["status"]["phase"] == "Pending"
    return str(_waiting(pod).get("message"))


async def test_from_an_oci_layout(host: ImageHost, tiny: Tiny) -> None:
    async with host.running():
        await host.create_in(f"oci:{tiny.layout}:v1", "p")
        pod = await host.finished("p")
        assert await host.log("p") == "the image's own\n"
    assert pod["status"]["containerStatuses"][0]["imageID"] == f"oci:{tiny.layout}:v1"


async def test_from_a_layout_whose_path_is_no_name(host: ImageHost, tiny: Tiny, tmp_path: Path) -> None:
    layout = tmp_path / "My Images"
    layout.symlink_to(tiny.layout)
    async with host.running():
        await host.create_in(f"oci:{layout}:v1", "p")
        pod = await host.finished("p")
        assert await host.log("p") == "the image's own\n"
        await host.create_in(f"oci:{layout}/gone:v1", "q")
        q = await host.until("q", lambda pod: _waiting(pod).get("reason") == "ErrImagePull")
        assert f"can't pull oci:{layout}/gone:v1" in (said := _waiting(q)["message"])
        assert "/tmp/gpuyard-" not in said
    assert pod["status"]["containerStatuses"][0]["imageID"] == f"oci:{layout}:v1"
    name = own_name(f"oci:{layout}:v1")
    named = subprocess.run(
        ["podman", "images", "--format", "{{.Repository}}"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert name in named and not any(other.startswith("localhost/tmp/gpuyard-") for other in named)
    subprocess.run(["podman", "untag", name, name], check=True)


async def test_a_missing_tag_waits_with_the_registrys_reason(host: ImageHost, tiny: Tiny) -> None:
    async with host.running():
        pod = await host.create_in(f"{tiny.name}:nope", "p")
        message = await _waits_for(host, "ErrImagePull")
        assert f"{tiny.name}:nope" in message
        assert "manifest unknown" in message
        message = await _waits_for(host, "ImagePullBackOff")
        assert message.startswith(f'Back-off pulling image "{tiny.name}:nope": ErrImagePull: ')
        await host.api.delete(PODS, "p", "default")
        await host.until_removed(pod)


async def test_what_comes_later_is_pulled_later(host: ImageHost, tiny: Tiny) -> None:
    late = f"{tiny.name}:late"
    async with host.running():
        await host.create_in(late, "p")
        await _waits_for(host, "ErrImagePull")
        subprocess.run(
            [
                "skopeo",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                f"oci:{tiny.layout}:v1",
                f"docker://{late}",
            ],
            check=True,
        )
        assert (await host.finished("p"))["status"]["phase"] == "Succeeded"


async def test_a_pull_that_hangs_ends_with_its_pod(host: ImageHost, tiny: Tiny) -> None:
    import asyncio

    held: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.put_nowait(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, host.running():
        pod = await host.create_in(f"127.0.0.1:{port}/a:b", "p")
        writer = await asyncio.wait_for(held.get(), 60)
        await host.api.delete(PODS, "p", "default", grace_period_s=0)
        await host.until_removed(pod)
        writer.close()


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [
        ("127.0.0.1:1/never/was:here", "Never", "ErrImageNeverPull"),
        ("Upper/Case", "IfNotPresent", "InvalidImageName"),
        ("oci:some/folder", "IfNotPresent", "InvalidImageName"),
        ("oci:/no/such/folder", "IfNotPresent", "ErrImagePull"),
        ("127.0.0.1:1/nobody/listens:v1", "IfNotPresent", "ErrImagePull"),
    ],
)
async def test_images_that_are_not_to_be_had(host: ImageHost, image: str, policy: str, reason: str) -> None:
    async with host.running():
        await host.create_in(image, "p", main={"imagePullPolicy": policy})
        assert await _waits_for(host, reason)


async def test_without_podman_the_reason_is_shown(host: ImageHost) -> None:
    old = host.runtime
    host.runtime = Runtimes(old.process.isolation, old.cgroups, host.api.clock, podman=Podman(None, "none"))
    async with host.running():
        await host.create_in("a/b:c", "p")
        assert "podman isn't installed" in await _waits_for(host, "CreateContainerError")
