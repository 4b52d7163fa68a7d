"""Whether a registry takes us, asked of real ones: through the client, and as `doctor` says it."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.doctor.check import Check, CheckState
from gpuyard.doctor.registry import RegistryFact, judge, look_at_registry
from gpuyard.images.registry.credentials import Credentials
from tests.registry.conftest import Connect, docker_registry, free_port, push_image, ref
from tests.registry.test_registries import HTPASSWD


@pytest.fixture(params=["docker", "crane"])
def registry(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(request.param)
    return name


async def test_one_that_is_there(registry: str, connect: Connect) -> None:
    client = connect()
    await client.ping(registry)
    # What answers is a registry.
    assert await client.repository(ref(registry, "nobody/pushed")).find_manifest("this") is None


async def test_one_that_wants_to_know_us(tmp_path: Path, connect: Connect) -> None:
    (tmp_path / "users").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/users}}}}\n"
    with docker_registry(tmp_path, auth) as registry:
        with pytest.raises(errors.ImageUnauthorized, match="wants credentials"):
            await connect().ping(registry)
        await connect(credentials=Credentials("me", "pass word")).ping(registry)
        # And with the credentials that `docker login` left.
        entry = {"auth": b64encode(b"me:pass word").decode()}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry: entry}}))
        found = await look(RegistryFact(registry, asked=True), DOCKER_CONFIG=str(tmp_path))
        assert (found.outcome, found.message) == (CheckState.OK, f"{registry} answers")
        found = await look(RegistryFact(registry, asked=True), DOCKER_CONFIG="/nowhere")
        assert found.outcome is CheckState.BROKEN and f"docker login {registry}" in found.remedy


async def look(fact: RegistryFact, **environ: str) -> Check:
    return judge(await look_at_registry(fact, environ))


async def test_none_there() -> None:
    gone = f"127.0.0.1:{free_port()}"
    found = await look(RegistryFact(gone, asked=True))
    assert found.outcome is CheckState.BROKEN and gone in found.message
    # Nobody asked: the nodes may reach it all the same.
    found = await look(RegistryFact().of_agents(f"{gone}/agent:v1"))
    assert found.outcome is CheckState.WARNING and "the agents' registry" in found.message


async def test_images(registry: str, connect: Connect) -> None:
    await push_image(connect().repository(ref(registry, "doctor/image"), push=True), b"layer")
    found = await look(RegistryFact(image=f"{registry}/doctor/image:v1", asked=True))
    assert (found.outcome, found.message) == (
        CheckState.OK,
        f"{registry}/doctor/image:v1 can be read from here",
    )
    found = await look(RegistryFact(image=f"{registry}/doctor/image:v2", asked=True))
    assert found.outcome is CheckState.BROKEN
    assert found.message == f"there is no image {registry}/doctor/image:v2"


@pytest.mark.parametrize(
    "fact", [RegistryFact("Not a host", asked=True), RegistryFact(image="A/b", asked=True)]
)
async def test_what_is_no_name(fact: RegistryFact) -> None:
    assert (await look(fact)).outcome is CheckState.BROKEN


async def test_nothing_to_look_at() -> None:
    assert (await look(RegistryFact().of_agents(""))).outcome is CheckState.SKIPPED
    assert (await look(RegistryFact().of_agents("no image"))).outcome is CheckState.SKIPPED
