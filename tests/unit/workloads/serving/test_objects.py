"""A service's objects; test_render.py compares whole ones with golden files."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import HostContext, ResolvedRun, ResolvedService, Script
from gpuyard.workloads.spec.gpu_request import GpuRequest
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.spec.service.values import ServiceSpec

HOST = HostContext(python="/usr/bin/python3", workdir="/", path="/bin", home="/h", user="u")
PLACES = pytest.mark.parametrize("image", [None, "i"])


def resolved(wanted: ServiceSpec, image: str | None = None, **decided: Any) -> ResolvedRun:
    spec = RunSpec(run="serve.py", image=image, service=wanted)
    place: dict[str, Any] = {"image": image} if image else {"host": HOST}
    return ResolvedRun(spec, "s", "default", **place, **decided)


def of_kind(manifests: list[Manifest], kind: str) -> Manifest:
    [found] = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def container_of(deployment: Manifest) -> dict[str, Any]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


@PLACES
def test_all_have_one_name_and_select_the_same_pods(image: str | None) -> None:
    *others, deployment = manifests = render(resolved(ServiceSpec(8000), image))
    assert [manifest["kind"] for manifest in manifests] == ["Service", "PodDisruptionBudget", "Deployment"]
    assert {manifest["metadata"]["name"] for manifest in manifests} == {"s"}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == {LABEL_RUN: "s"} == deployment["spec"]["selector"]["matchLabels"]
    assert of_kind(others, "Service")["spec"]["selector"] == labels
    assert of_kind(others, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels


@PLACES
def test_the_program_finds_its_port_where_the_service_sends(image: str | None) -> None:
    *others, deployment = render(resolved(ServiceSpec(8000), image))
    container = container_of(deployment)
    assert {"name": "PORT", "value": "8000"} in container["env"]
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]
    [port] = of_kind(others, "Service")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (8000, "http")


@PLACES
@pytest.mark.parametrize(("drain", "grace_s"), [(None, 30), (timedelta(minutes=2), 120)])
def test_a_replica_leaves_before_it_drains(image: str | None, drain: timedelta | None, grace_s: int) -> None:
    run = resolved(ServiceSpec(8000, drain=drain), image, service=ResolvedService(leave_s=7))
    deployment = render(run)[-1]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == grace_s + 7
    assert container_of(deployment)["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}


def test_an_old_cluster_has_no_sleep() -> None:
    deployment = render(resolved(ServiceSpec(8000), "i", service=ResolvedService(leave_s=0)))[-1]
    assert "lifecycle" not in container_of(deployment)


def test_a_replica_that_does_not_listen_is_never_ready() -> None:
    container = container_of(render(resolved(ServiceSpec(8000)))[-1])
    assert container["readinessProbe"]["tcpSocket"] == {"port": "http"}
    assert "livenessProbe" not in container and "startupProbe" not in container


def test_each_script_has_a_config_map_of_its_own() -> None:
    """An earlier revision goes on with the script that it began with."""
    run = resolved(ServiceSpec(8000), "i", launcher={"launcher.py": "x"})
    maps = [
        of_kind(render(dataclasses.replace(run, script=Script("serve.py", text))), "ConfigMap")
        for text in ("one", "two")
    ]
    assert maps[0]["metadata"]["name"] != maps[1]["metadata"]["name"]
    assert all(config_map["immutable"] for config_map in maps)


def test_an_image_passes_pod_security_restricted() -> None:
    pod = render(resolved(ServiceSpec(8000), "i"))[-1]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    # Restricted forbids a probe or a hook that names another host, and ports of the node.
    container = pod["containers"][0]
    assert all("hostPort" not in port for port in container["ports"])
    assert "host" not in container["readinessProbe"]["tcpSocket"]


@pytest.mark.parametrize("replicas", [1, 5])
def test_nodes_can_be_drained_one_replica_at_a_time(replicas: int) -> None:
    budget = of_kind(render(resolved(ServiceSpec(8000, replicas, replicas))), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


def test_gpus_are_each_replica_s() -> None:
    run = resolved(ServiceSpec(8000, 3, 3))
    deployment = render(dataclasses.replace(run, spec=dataclasses.replace(run.spec, gpus=GpuRequest(2))))[-1]
    assert deployment["spec"]["replicas"] == 3
    assert container_of(deployment)["resources"]["limits"] == {"nvidia.com/gpu": "2"}
