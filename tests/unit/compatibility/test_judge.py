"""Real combinations of image, driver and GPU; each line says which row of the facts decides it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.judge import judge
from gpuyard.compatibility.need import Traits, need_of
from gpuyard.compatibility.offer import Injection, Offer, stated_offer
from gpuyard.compatibility.verdict import Fit, Rule
from gpuyard.compatibility.version import Architectures, Capability, Version
from gpuyard.images.contents.torch import Installed
from tests.unit.compatibility.images import conda, debian, ngc, ngc_renamed, nvidia_cuda, pip, pytorch

FACTS = load_facts()
FITS, NOTES, FAILS, UNKNOWN = Fit.FITS, Fit.NOTES, Fit.FAILS, Fit.UNKNOWN
OLD_ARM = pip("2.11.0", "13.0.96", machine="arm64")

# image, driver, GPU, outcome, rule that decides (None: nothing to say)
TABLE = [
    # Full floor (A): the driver that ships with the toolkit, or a newer one.
    (pip("2.5.1", "12.4.127"), "550.54.14", "H100", FITS, None),  # A 12.4.0: 550.54.14
    (nvidia_cuda("12.4.1"), "550.54.15", "H100", FITS, None),  # A 12.4.1: 550.54.15
    (nvidia_cuda("12.4.1"), "550.54.14", "H100", NOTES, Rule.MINOR_VERSION),  # one below A 12.4.1
    (nvidia_cuda("12.2.2"), "535.104.05", "A100", FITS, None),  # A 12.2.2: 535.104.05
    (nvidia_cuda("12.2.2"), "535.86.10", "A100", NOTES, Rule.MINOR_VERSION),  # A 12.2.2, 12.2.1 has 535.86.10
    (nvidia_cuda("12.6.3"), "560.35.05", "L40S", FITS, None),  # A 12.6.3
    (nvidia_cuda("11.8.0"), "520.61.05", "L4", FITS, None),  # A 11.8.0
    (nvidia_cuda("11.8.0"), "580.65.06", "H100", FITS, None),  # MVC: newer drivers stay OK
    (pip("2.8.0", "12.8.90"), "580.95.05", "B200", FITS, None),  # A 12.8, D 2.8.0 has sm_100
    (nvidia_cuda("13.0.2"), "580.95.05", "H100", FITS, None),  # A 13.0.2
    (ngc("26.06"), "610.43.02", "H200", FITS, None),  # E 26.06
    (ngc("26.08"), "615.61", "B300", FITS, None),  # E 26.08, F 10.3 from 12.9
    # Minor-version compatibility (A, MVC).
    (pip("2.8.0", "12.8.90"), "525.60.13", "A100", NOTES, Rule.MINOR_VERSION),  # MVC 12.x: 525.60.13
    (pip("2.8.0", "12.8.90"), "525.60.12", "A100", FAILS, Rule.DRIVER_TOO_OLD),  # just below it
    (pip("2.5.1", "12.4.127"), "535.104.05", "H100", NOTES, Rule.MINOR_VERSION),  # R535 is CUDA 12.2
    (pip("2.0.1", "11.7.99"), "450.80.02", "T4", NOTES, Rule.MINOR_VERSION),  # MVC 11.x: 450.80.02
    (pip("2.0.1", "11.7.99"), "450.51.06", "T4", FAILS, Rule.DRIVER_TOO_OLD),  # just below it
    (nvidia_cuda("11.0.3"), "450.36.06", "T4", NOTES, Rule.MINOR_VERSION),  # UV: 11.0 has its own floor
    (pip("2.14.0", "13.0.96"), "580", "H100", NOTES, Rule.MINOR_VERSION),  # MVC 13.x: 580, full 580.65.06
    (ngc("26.03"), "580.95.05", "H100", NOTES, Rule.FORWARD),  # E: all 13.x tags run on R580
    (pip("2.13.0", "13.0.96"), "575.57.08", "H100", FAILS, Rule.DRIVER_TOO_OLD),  # D: 2.13 from PyPI is 13.0
    (pip("2.11.0", "13.0.96"), "570.124.06", "B200", FAILS, Rule.DRIVER_TOO_OLD),  # D practical rule: R570
    (pip("2.11.0"), "550.54.15", "A100", FAILS, Rule.DRIVER_TOO_OLD),  # D: PyPI's 2.11.0 without a pin
    (nvidia_cuda("10.2"), "440.33", "V100", FITS, None),  # A 10.2
    (nvidia_cuda("10.2"), "418.39", "V100", FAILS, Rule.DRIVER_TOO_OLD),  # no MVC before 11
    # Local version tags, and what wins (I).
    (pip("2.11.0+cu126"), "535.104.05", "V100", NOTES, Rule.MINOR_VERSION),  # the remedy of D: cu126 variant
    (pip("2.7.1+cu128"), "570.124.06", "RTX 5090", FITS, None),  # D: 2.7.0 cu128 has sm_120
    (pip("2.5.1", "12.4.127", base=nvidia_cuda("13.0.0")), "535.104.05", "H100", NOTES, Rule.FORWARD),
    (pip("2.5.1+cpu"), "550.54.15", "H100", FAILS, Rule.CPU_TORCH),  # H: not compiled with CUDA
    # Forward compatibility (B): data-centre products, and branches that NVIDIA names.
    (ngc("25.10"), "535.104.05", "H100", NOTES, Rule.FORWARD),  # B >=12.6: R535 isn't excluded
    (ngc("25.10"), "545.23.06", "H100", FAILS, Rule.DRIVER_TOO_OLD),  # B >=12.6: R545 is
    (ngc("25.10"), "555.42.02", "A100", FAILS, Rule.DRIVER_TOO_OLD),  # and R555
    (ngc("25.10"), "535.104.05", "RTX 4090", FAILS, Rule.DRIVER_TOO_OLD),  # B: not on GeForce (804)
    (ngc("25.10"), "535.104.05", "RTX-A4000", FAILS, Rule.DRIVER_TOO_OLD),  # nor on workstations
    (ngc("25.10"), "535.104.05", "RTX-A6000", UNKNOWN, Rule.FORWARD),  # but in NGC-ready servers
    (ngc("25.10"), "560.35.03", "H100", UNKNOWN, Rule.FORWARD),  # contested among NVIDIA's own pages
    (ngc("25.10"), "525.85.12", "H100", UNKNOWN, Rule.FORWARD),
    # The package of nvidia/cuda goes first whatever the GPU (804), a container's own script tries it.
    (nvidia_cuda("13.1.1"), "580.126.09", "RTX 5090", FAILS, Rule.FORWARD),
    (nvidia_cuda("12.4.1"), "535.183.01", "RTX 4090", FAILS, Rule.FORWARD),
    (nvidia_cuda("11.3.1"), "460.80", "GTX 1080 Ti", FAILS, Rule.FORWARD),
    (nvidia_cuda("12.9.1"), "550.54.15", "RTX-A4000", FAILS, Rule.FORWARD),
    (nvidia_cuda("12.9.1"), "550.54.15", "RTX-A6000", UNKNOWN, Rule.FORWARD),
    (nvidia_cuda("12.4.1"), "550.54.15", "RTX 4090", FITS, None),
    (pip("2.5.1", "12.4.127", base=nvidia_cuda("12.8.1")), "535.104.05", "RTX 4090", FAILS, Rule.FORWARD),
    (pip("2.5.1", "12.4.127"), "535.104.05", "RTX 4090", NOTES, Rule.MINOR_VERSION),
    (ngc("25.04"), "550.54.15", "RTX 4090", NOTES, Rule.MINOR_VERSION),
    (nvidia_cuda("12.8.1"), "545.23.06", "H100", UNKNOWN, Rule.FORWARD),  # not named: 803 by older toolkits
    (ngc("23.08"), "470.57.02", "A100", NOTES, Rule.FORWARD),  # B 12.2.1: 470.57+
    (ngc("23.08"), "460.32.03", "A100", FAILS, Rule.DRIVER_TOO_OLD),  # B 12.2.1: not R460
    (ngc("23.05"), "515.65.01", "A100", NOTES, Rule.FORWARD),  # B 12.1.1: 515.65+
    (ngc("23.08"), "515.65.01", "A100", FAILS, Rule.DRIVER_TOO_OLD),  # B 12.2.1 no longer names R515
    (ngc("24.04"), "510.47.03", "A100", FAILS, Rule.DRIVER_TOO_OLD),  # B 12.4: not R510
    (ngc("24.04"), "470.57.02", "T4", NOTES, Rule.FORWARD),  # B 12.4: 470.57+
    (nvidia_cuda("12.4.1"), "470.82.01", "V100", NOTES, Rule.FORWARD),  # B: 12.4.1 names {470,525,535}
    (nvidia_cuda("13.0.0"), "550.54.15", "H100", NOTES, Rule.FORWARD),  # B: 13.0 names {535,550,565}
    (nvidia_cuda("13.0.0"), "570.86.10", "H100", NOTES, Rule.FORWARD),  # DKR: and R570, R575
    (nvidia_cuda("13.0.0"), "560.35.03", "H100", FAILS, Rule.DRIVER_TOO_OLD),  # the image doesn't name R560
    (pip("2.11.0", "13.0.96", base=nvidia_cuda("12.8.1")), "535.104.05", "H100", FAILS, Rule.DRIVER_TOO_OLD),
    (pip("2.11.0", "13.0.96"), "535.104.05", "H100", FAILS, Rule.DRIVER_TOO_OLD),  # B: pip has no compat
    # Machine code and PTX (D).
    (pip("2.7.1", "12.6.77"), "575.51.03", "B200", FAILS, Rule.NO_KERNEL_IMAGE),  # D 2.7.1: no Blackwell
    (pip("2.7.1", "12.6.77"), "575.51.03", "RTX 5090", FAILS, Rule.NO_KERNEL_IMAGE),
    (pip("2.8.0", "12.8.90"), "575.51.03", "B300", FITS, None),  # cubin rule: sm_100 runs on 10.3
    (pip("2.8.0", "12.8.90"), "580.65.06", "GB10", FITS, None),  # sm_120 runs on 12.1 (machine not said)
    (pip("2.8.0", "12.8.90"), "570.86.10", "L40S", FITS, None),  # sm_86 covers 8.9
    (pip("2.8.0", "12.8.90"), "570.86.10", "GTX-1080", FAILS, Rule.NO_KERNEL_IMAGE),  # D 2.8.0: from sm_70
    (pip("2.11.0", "13.0.96"), "580.65.06", "V100", FAILS, Rule.NO_KERNEL_IMAGE),  # D 2.11: from sm_75
    (pip("2.11.0", "13.0.96"), "580.65.06", "T4", FITS, None),  # D 2.11 has sm_75
    (pip("2.0.1", "11.7.99"), "525.60.13", "H100", FAILS, Rule.NO_KERNEL_IMAGE),  # D 2.0.1: up to sm_86
    (pip("2.0.1+cu118"), "525.60.13", "H100", FITS, None),  # COG: cu118 has sm_90
    (pytorch("2.3.1", "12.1"), "570.86.10", "RTX 5090", FAILS, Rule.NO_KERNEL_IMAGE),  # D 2.3.1
    (pytorch("2.8.0", "12.9"), "575.57.08", "RTX 5090", FITS, None),  # build list of 12.9
    (replace(OLD_ARM, machine="arm64"), "580.65.06", "GB200", FITS, None),  # 13.0 aarch64 has sm_100
    (pip("2.11.0+cu126", machine="arm64"), "580.65.06", "GH200", FITS, None),  # 12.6 aarch64: 80 90
    (pip("2.11.0+cu126", machine="arm64"), "580.65.06", "GB200", FAILS, Rule.NO_KERNEL_IMAGE),
    (pip("2.10.0", machine="arm64"), "580.65.06", "GB200", FAILS, Rule.CPU_TORCH),  # PYPI: before 2.11
    (pip("2.11.0", machine="arm64"), "580.65.06", "GB200", FITS, None),
    (pip("2.9.1+cu128", machine="arm64"), "580.65.06", "GB200", FITS, None),  # A64
    (pip("2.9.1+cu128", machine="arm64"), "580.00", "Jetson Thor", FAILS, Rule.NO_KERNEL_IMAGE),
    (pip("2.9.1+cu130", machine="arm64"), "580.00", "Jetson Thor", NOTES, Rule.MINOR_VERSION),
    (pip("2.11.0+cu128"), "580.65.06", "V100", FAILS, Rule.NO_KERNEL_IMAGE),  # V211
    (pip("2.10.0+cu128"), "580.65.06", "V100", FITS, None),
    (pip("2.7.1+cu118"), "570.124.06", "RTX 5090", FAILS, Rule.NO_KERNEL_IMAGE),  # BLDR: no sm_120, no PTX
    (ngc("25.01"), "570.86.10", "V100", FAILS, Rule.NO_KERNEL_IMAGE),  # NGCT: 7.5 from 25.01 on
    (ngc("24.12"), "560.35.05", "V100", FITS, None),
    (nvidia_cuda("12.8.1"), "580.00", "Jetson Thor", FAILS, Rule.MACHINE),  # a Jetson is an arm64 machine
    # Generations: what CUDA knows, and what drivers still drive (F).
    (nvidia_cuda("13.0.0"), "580.95.05", "V100", FAILS, Rule.CUDA_DROPPED_GPU),  # F 7.0: last CUDA 12
    (nvidia_cuda("12.9.1"), "580.95.05", "V100", FITS, None),
    (nvidia_cuda("12.4.1"), "590.44.01", "V100", FAILS, Rule.GPU_DROPPED),  # F 7.0: last driver R580
    (nvidia_cuda("12.4.1"), "590.44.01", "P40", FAILS, Rule.GPU_DROPPED),  # F 6.1
    (nvidia_cuda("12.4.1"), "590.44.01", "T4", FITS, None),  # F 7.5 goes on
    (nvidia_cuda("11.4.0"), "470.82.01", "K80", FITS, None),  # F 3.7: CUDA 11, R470
    (nvidia_cuda("11.4.0"), "525.60.13", "K80", FAILS, Rule.GPU_DROPPED),  # F 3.7: last driver R470
    (nvidia_cuda("11.4.0"), "470.82.01", "M60", FITS, None),  # F 5.2
    (nvidia_cuda("12.4.1"), "535.104.05", "B200", FAILS, Rule.GPU_TOO_NEW),  # F 10.0: from R570
    (nvidia_cuda("12.4.1"), "580.65.06", "B200", UNKNOWN, Rule.CUDA_BEFORE_GPU),  # F 10.0: first CUDA 12.8
    (nvidia_cuda("11.4.0"), "525.60.13", "H100", UNKNOWN, Rule.CUDA_BEFORE_GPU),  # F 9.0: first CUDA 11.8
    (ngc("26.02"), "590.48.01", "V100", FAILS, Rule.GPU_DROPPED),  # F before E's floor of 7.5
    (ngc("26.02"), "580.95.05", "P100", FAILS, Rule.NO_KERNEL_IMAGE),  # E: 26.02 needs 7.5
    (ngc("24.05"), "550.54.15", "P100", FITS, None),  # E: 24.05 runs from 6.0
    # What only the base brings, under a name that says nothing: read from its layers or a build's labels.
    (debian(), "550.54.15", "H100", FAILS, Rule.CPU_TORCH),  # Debian's python3-torch 1.13.1
    (debian("2.6.0", "12.4"), "550.54.15", "H100", FITS, None),  # a distribution's build with CUDA
    (debian("2.6.0", "12.4"), "570.86.10", "B200", UNKNOWN, Rule.CUDA_BEFORE_GPU),  # for what, nobody knows
    (conda("2.5.1", "12.4"), "535.104.05", "A100", NOTES, Rule.MINOR_VERSION),
    (conda("2.11.0", "13.0"), "535.104.05", "A100", FAILS, Rule.DRIVER_TOO_OLD),
    (conda("2.7.1+cu126", "12.6"), "575.51.03", "B200", FAILS, Rule.NO_KERNEL_IMAGE),  # D 2.7.1, by its tag
    (conda("2.11.0+cu130", "13.0"), "580.65.06", "V100", FAILS, Rule.NO_KERNEL_IMAGE),
    (conda("2.5.1+cpu", "none"), "580.65.06", "H100", FAILS, Rule.CPU_TORCH),
    (ngc_renamed("2.4.0a0+f70bd71a48.nv24.6", "12.5"), "555.42.02", "H100", FITS, None),  # E 24.06
    (ngc_renamed("2.4.0a0+f70bd71a48.nv24.6", "12.5"), "550.54.15", "H100", NOTES, Rule.FORWARD),
    (ngc_renamed("2.9.0a0+145a3a7bda.nv25.10", "13.0"), "535.104.05", "H100", NOTES, Rule.FORWARD),  # E 25.10
    (ngc_renamed("2.9.0a0+145a3a7bda.nv25.10", "13.0"), "535.104.05", "RTX 4090", FAILS, Rule.DRIVER_TOO_OLD),
    (ngc_renamed("2.11.0a0+eb65b36914.nv26.2", "13.1"), "580.95.05", "P100", FAILS, Rule.NO_KERNEL_IMAGE),
    # CPU architecture.
    (nvidia_cuda("12.8.1"), "570.124.06", "GB200", FAILS, Rule.MACHINE),  # amd64 image on Grace
    (nvidia_cuda("12.8.1", machine="arm64"), "570.124.06", "GB200", FITS, None),
    # Nothing known.
    (Traits("debian:12", "amd64"), "550.54.15", "H100", UNKNOWN, Rule.NO_CUDA),
    (nvidia_cuda("12.4.1"), "", "H100", UNKNOWN, Rule.DRIVER_UNKNOWN),
]  # fmt: skip


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize(
    ("image", "driver", "gpu", "outcome", "rule"),
    TABLE,
    ids=[f"{n}-{row[0].reference.rpartition('/')[2]}-{row[1]}-{row[2]}" for n, row in enumerate(TABLE)],
)
def test_combination(image: Traits, driver: str, gpu: str, outcome: Fit, rule: Rule | None) -> None:
    offer = stated_offer(gpu, driver, FACTS)
    if gpu == "GB10":
        offer = replace(offer, machine="")
    # What the legacy runtime would make of it is another test's subject.
    verdict = judge(need_of(image, FACTS), replace(offer, injection=Injection.CDI), FACTS)
    verdict = replace(verdict, reasons=tuple(r for r in verdict.reasons if r.rule is not Rule.REQUIRE))
    assert verdict.outcome is outcome, verdict.reasons
    assert (verdict.decisive.rule if verdict.decisive else None) is rule


@pytest.mark.parametrize(
    ("image", "driver", "gpu", "legacy"),
    [
        # C: CUDA_VERSION alone asks for that CUDA, so the legacy runtime refuses what MVC would run.
        (Traits("own", env={"CUDA_VERSION": "12.8.1"}), "535.104.05", "RTX 4090", FAILS),
        (nvidia_cuda("12.8.1"), "570.124.06", "RTX 4090", FITS),
        (nvidia_cuda("12.8.1"), "535.104.05", "H100", NOTES),
        # 12.4.1 names 470, 525 and 535: on R545 the legacy runtime refuses it.
        (nvidia_cuda("12.4.1"), "545.23.06", "H100", FAILS),
        (nvidia_cuda("12.2.2"), "530.30.02", "A100", FAILS),
        (nvidia_cuda("12.8.1", NVIDIA_DISABLE_REQUIRE="true"), "545.23.06", "H100", UNKNOWN),
        (nvidia_cuda("12.8.1", NVIDIA_REQUIRE_JETPACK="csv-mounts=all"), "570.124.06", "H100", FITS),
        # Two variables are both required.
        (nvidia_cuda("12.8.1", NVIDIA_REQUIRE_ARCH="arch>=8.0"), "570.124.06", "T4", FAILS),
    ],
)
def test_only_the_legacy_runtime_refuses_by_require(
    image: Traits, driver: str, gpu: str, legacy: Fit
) -> None:
    need, offer = need_of(image, FACTS), stated_offer(gpu, driver, FACTS)
    assert judge(need, replace(offer, injection=Injection.LEGACY), FACTS).outcome is legacy
    for injection in (Injection.CDI, Injection.UNKNOWN):
        assert not judge(need, replace(offer, injection=injection), FACTS).fails


def test_layers_that_were_read_are_not_to_be_read_again() -> None:
    offer = stated_offer("H100", "550.54.15", FACTS)
    [unread] = judge(need_of(Traits("debian:12", "amd64"), FACTS), offer, FACTS).reasons
    assert "--read-layers" in unread.remedy
    [read] = judge(need_of(Traits("debian:12", "amd64", installed=Installed()), FACTS), offer, FACTS).reasons
    assert (read.rule, read.outcome) == (Rule.NO_CUDA, UNKNOWN)
    assert read.message == "there is no torch in its layers, and nothing says which CUDA it uses"
    assert not read.remedy


def test_ptx_needs_a_driver_no_older_than_its_toolkit() -> None:
    # D 2.14.0 has PTX 120; a capability that comes after it runs that if the driver knows the CUDA.
    need = need_of(pip("2.14.0+cu132"), FACTS)
    rubin = replace(stated_offer("B200", "595.45.04", FACTS), capability=Capability(13, 0))
    assert [r.rule for r in judge(need, rubin, FACTS).reasons] == [Rule.PTX]
    assert judge(need, rubin, FACTS).outcome is NOTES
    old = stated_offer("B200", "580.95.05", FACTS)
    older = judge(need, replace(old, capability=rubin.capability), FACTS)
    assert older.outcome is FAILS
    assert "error 222" in older.reasons[-1].message


def test_a_cuda_that_is_newer_than_all_known() -> None:
    offer = stated_offer("H100", "580.95.05", FACTS)
    [reason] = judge(need_of(Traits("x", env={"CUDA_VERSION": "14.0.0"}), FACTS), offer, FACTS).reasons[:1]
    assert reason.message == (
        "CUDA 14.0.0 needs a driver for CUDA 14.0 or newer, the node has 580.95.05 (CUDA 13.0)"
    )
    assert reason.remedy == "use an image for CUDA 11.8 to 13.0"


def test_on_simulated_gpus_a_torch_without_cuda_may_run() -> None:
    offer = replace(stated_offer("H100", "580.95.05", FACTS), simulated=True)
    assert judge(need_of(debian(), FACTS), offer, FACTS).outcome is NOTES
    # What the driver is too old for is told all the same: the real node of this kind would refuse it.
    old = replace(stated_offer("H100", "535.104.05", FACTS), simulated=True)
    assert judge(need_of(pip("2.13.0", "13.0.96"), FACTS), old, FACTS).outcome is FAILS


def test_a_newer_driver_compiles_ptx_itself_whatever_the_image_brings() -> None:
    # Its compat package is older than the driver, so the driver's own CUDA is what counts.
    need = replace(
        need_of(ngc("25.10"), FACTS),
        architectures=Architectures.parse(["80", "90+PTX"]),
        cuda=Version.parse("13.1"),
    )
    newer = stated_offer("B200", "595.45.04", FACTS)
    assert [r.rule for r in judge(need, newer, FACTS).reasons] == [Rule.PTX]
    assert judge(need, newer, FACTS).outcome is NOTES


@pytest.mark.parametrize(
    ("image", "offer", "rules"),
    [
        # A GPU that doesn't say what it is; the driver is judged all the same.
        (pip("2.8.0", "12.8.90"), Offer("n", driver=Version.parse("580.95.05")), [Rule.CAPABILITY_UNKNOWN]),
        (pip("2.8.0", "12.8.90"), Offer("n", driver=Version.parse("470.82.01")), [Rule.DRIVER_TOO_OLD]),
        # One that came after these facts: code for older ones doesn't run on it, its PTX may.
        (nvidia_cuda("13.0.0"), Offer("n", Version.parse("580.95.05"), capability=Capability(14, 0)),
         [Rule.CAPABILITY_UNKNOWN]),
        (pip("2.8.0", "12.8.90"), Offer("n", Version.parse("580.95.05"), capability=Capability(14, 0)),
         [Rule.NO_KERNEL_IMAGE]),
        (pip("2.14.0", "13.0.96"), Offer("n", capability=Capability(14, 0)), [Rule.DRIVER_UNKNOWN, Rule.PTX]),
        (Traits("x"), Offer("n"), [Rule.NO_CUDA]),
    ],
)  # fmt: skip
def test_what_a_node_doesn_t_say(image: Traits, offer: Offer, rules: list[Rule]) -> None:
    offer = replace(offer, cuda=FACTS.driver_cuda(offer.driver) if offer.driver else None)
    verdict = judge(need_of(image, FACTS), offer, FACTS)
    found = [r for r in verdict.reasons if r.rule is not Rule.REQUIRE]
    assert [r.rule for r in found] == rules
    fails = {Rule.DRIVER_TOO_OLD, Rule.NO_KERNEL_IMAGE}
    assert [r.outcome for r in found] == [FAILS if rule in fails else UNKNOWN for rule in rules]


def test_without_gpus_only_the_cpu_can_fail() -> None:
    old = replace(stated_offer("H100", "535.104.05", FACTS), machine="arm64")
    verdict = judge(need_of(pip("2.13.0", "13.0.96"), FACTS), old, FACTS)
    assert [r.rule for r in verdict.reasons if r.outcome is FAILS] == [Rule.MACHINE, Rule.DRIVER_TOO_OLD]
    assert [r.rule for r in verdict.without_gpus().reasons if r.outcome is FAILS] == [Rule.MACHINE]
    here = replace(verdict, reasons=verdict.reasons[1:]).without_gpus()
    assert here.outcome is NOTES
    unknown = judge(need_of(nvidia_cuda("12.4.1"), FACTS), stated_offer("H100", "", FACTS), FACTS)
    assert unknown.without_gpus() == unknown


def test_a_node_s_driver_is_taken_to_drive_its_gpu() -> None:
    need, offer = need_of(nvidia_cuda("11.8.0"), FACTS), stated_offer("H100", "515.65.01", FACTS)
    assert judge(need, offer, FACTS).outcome is FAILS
    assert judge(need, replace(offer, observed=True), FACTS).outcome is NOTES


def test_a_reason_has_both_numbers_and_a_remedy() -> None:
    verdict = judge(
        need_of(pip("2.13.0", "13.0.96"), FACTS), stated_offer("H100", "535.104.05", FACTS), FACTS
    )
    [reason] = verdict.reasons
    assert (reason.needs, reason.has) == ("driver 580", "535.104.05")
    assert reason.message == "CUDA 13.0 needs driver 580 or newer, the node has 535.104.05 (CUDA 12.2)"
    assert reason.remedy == (
        "use an image for CUDA 11.8 to 12.2, "
        "or install driver 580 or newer (NVIDIA supports branch 620 until 2029-09)"
    )
    assert reason.to_json()["rule"] == "DriverTooOld"


def test_by_the_cuda_of_the_driver_where_its_version_is_not_known() -> None:
    offer = replace(stated_offer("H100", "", FACTS), cuda=FACTS.driver_cuda(FACTS.toolkits[-1].driver))  # type: ignore[arg-type]
    assert judge(need_of(pip("2.8.0"), FACTS), offer, FACTS).outcome is FITS
    older = replace(offer, cuda=FACTS.toolkits[3].cuda)
    assert judge(need_of(pip("2.8.0"), FACTS), older, FACTS).decisive.rule is Rule.DRIVER_TOO_OLD  # type: ignore[union-attr]
