from __future__ import annotations

from dataclasses import replace

import pytest

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.fleet import FleetReport, exclusion, judge_all
from gpuyard.compatibility.need import Traits, need_of
from gpuyard.compatibility.offer import Offer, stated_offer
from tests.unit.compatibility.images import ngc, nvidia_cuda, pip, pytorch

FACTS = load_facts()


def offer(name: str, gpu: str, driver: str) -> Offer:
    return replace(stated_offer(gpu, driver, FACTS), name=name, observed=True)


def report_of(image: Traits, *offers: Offer) -> FleetReport:
    return judge_all([need_of(image, FACTS)], offers, FACTS)


@pytest.mark.parametrize(
    ("image", "gpu", "driver", "name"),
    [
        (pip("2.14.0", "13.0.96"), "V100", "535.104.05", "torch 2.14.0+cu126"),
        (pip("2.7.1", "12.6.77"), "B200", "575.51.03", "torch 2.7.1+cu128"),
        (pip("2.5.1+cpu"), "H100", "550.54.15", "torch 2.5.1+cu124"),
        (pip("2.3.1", "12.1.105"), "RTX 5090", "570.86.10", "torch 2.7.1+cu128"),
        (pytorch("2.11.0", "13.0"), "H100", "560.35.05", "torch 2.11.0+cu129"),
        (ngc("25.10"), "RTX 4090", "550.54.15", "nvcr.io/nvidia/pytorch:25.06-py3"),
        (ngc("24.06"), "B200", "470.82.01", None),
        (nvidia_cuda("13.0.0"), "V100", "580.95.05", "nvidia/cuda:12.9.2-base-ubuntu22.04"),
        (ngc("25.10"), "V100", "535.104.05", "nvcr.io/nvidia/pytorch:24.12-py3"),
        (ngc("25.06"), "V100", "580.95.05", "nvcr.io/nvidia/pytorch:24.12-py3"),
        (nvidia_cuda("13.1.1"), "RTX 5090", "580.126.09", "nvidia/cuda:13.0.3-base-ubuntu22.04"),
        (nvidia_cuda("12.4.1"), "RTX 4090", "535.183.01", "nvidia/cuda:12.2.2-base-ubuntu22.04"),
        (Traits("debian:12", "arm64"), "H100", "550.54.15", None),
    ],
)
def test_the_nearest_that_would_fit(image: Traits, gpu: str, driver: str, name: str | None) -> None:
    node = replace(offer("n1", gpu, driver), machine="amd64")
    report = report_of(image, replace(node, observed=False))
    assert report.none_fits
    assert (report.suggestion.name if report.suggestion else None) == name


def test_a_container_for_a_jetson() -> None:
    image = replace(ngc("25.04"), machine="arm64")
    report = report_of(image, stated_offer("Jetson Thor", "580.00", FACTS))
    assert report.none_fits
    assert report.suggestion is not None
    assert report.suggestion.name == "nvcr.io/nvidia/pytorch:25.08-py3"


def test_the_suggestion_is_for_most_nodes() -> None:
    image = pip("2.14.0", "13.0.96")
    nodes = [
        offer("a", "H100", "550.54.15"),
        offer("b", "V100", "550.54.15"),
        offer("c", "B200", "570.86.10"),
    ]
    report = report_of(image, *nodes)
    assert report.none_fits
    assert report.suggestion is not None
    assert (report.suggestion.name, report.suggestion.nodes) == ("torch 2.10.0+cu128", ("a", "b", "c"))
    assert report.suggestion.how == (
        "install torch==2.10.0 from https://download.pytorch.org/whl/cu128 (CUDA 12.8): "
        "--index-url https://download.pytorch.org/whl/cu128"
    )


def test_each_node_pulls_its_own_platform() -> None:
    amd, arm = nvidia_cuda("12.8.1"), nvidia_cuda("12.8.1", machine="arm64")
    node = offer("grace", "GB200", "570.124.06")
    assert judge_all([need_of(amd, FACTS)], [node], FACTS).none_fits
    assert not judge_all([need_of(amd, FACTS), need_of(arm, FACTS)], [node], FACTS).none_fits


DRIVER = "nvidia.com/cuda.driver-version.full"
HOSTNAME = "kubernetes.io/hostname"


@pytest.mark.parametrize(
    ("labels", "expression"),
    [
        # The driver tells them apart, so later nodes with the old driver are kept off, too.
        ({"old": {DRIVER: "470.82.01"}, "new": {DRIVER: "580.95.05"}}, (DRIVER, ["470.82.01"])),
        # A good node has the same value: it would be kept off.
        ({"old": {DRIVER: "1", HOSTNAME: "old.lan"}, "new": {DRIVER: "1"}}, (HOSTNAME, ["old.lan"])),
        ({"old": {}, "new": {DRIVER: "1"}}, (HOSTNAME, ["old"])),
        ({"old": {"nvidia.com/gpu.product": "A"}, "new": {"nvidia.com/gpu.product": "B"}},
         ("nvidia.com/gpu.product", ["A"])),
    ],
)  # fmt: skip
def test_pods_are_kept_off_what_fails(
    labels: dict[str, dict[str, str]], expression: tuple[str, list[str]]
) -> None:
    report = report_of(
        pip("2.14.0", "13.0.96"), offer("old", "H100", "470.82.01"), offer("new", "H100", "580.95.05")
    )
    assert report.failing == {"old"}
    key, values = expression
    assert exclusion(report, labels) == {"key": key, "operator": "NotIn", "values": values}


def test_nothing_is_excluded_where_all_fit() -> None:
    report = report_of(pip("2.14.0", "13.0.96"), offer("new", "H100", "580.95.05"))
    assert exclusion(report, {"new": {}}) is None
    assert report.suggestion is None
