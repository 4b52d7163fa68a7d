"""Whatever is named as a remedy, the combination that it leads to fits by the same rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hypothesis import event, given
from hypothesis import strategies as st

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.judge import judge
from gpuyard.compatibility.nearest import nearest_fit
from gpuyard.compatibility.need import Need, Traits, need_of
from gpuyard.compatibility.offer import Injection, Offer, stated_offer
from gpuyard.compatibility.verdict import Fit, Rule
from gpuyard.compatibility.version import Architectures, Version
from gpuyard.gpus.catalogue import MODELS
from tests.unit.compatibility.images import ngc, nvidia_cuda, pip, pytorch

FACTS = load_facts()
SILENT = {Rule.CAPABILITY_UNKNOWN, Rule.DRIVER_UNKNOWN, Rule.NO_CUDA}
NAMES = [model.name for model in MODELS if model.compute_capability] + ["K20", "GTX 980", "Jetson Thor"]
DRIVERS = sorted(
    {t.driver for t in FACTS.toolkits if t.driver} | {Version((branch, 10)) for branch, _ in FACTS.branches}
)
CUDAS = list(dict.fromkeys(t.cuda.minor for t in FACTS.toolkits if t.driver))

bases = st.sampled_from([str(t.cuda) for t in FACTS.toolkits if t.driver]).map(nvidia_cuda)
wheels = st.sampled_from(
    [f"{r.version}+cu{c.parts[0]}{c.parts[1]}" for r in FACTS.torch.values() for c in r.variants]
)
images = st.one_of(
    bases,
    st.builds(pip, wheels),
    st.builds(lambda wheel, base: pip(wheel, base=base), wheels, bases),
    st.builds(
        lambda r: pytorch(str(r.version), str(r.variants[0])), st.sampled_from(list(FACTS.torch.values()))
    ),
    st.sampled_from([str(tag) for tag in FACTS.containers]).map(ngc),
)
offers = st.builds(
    lambda gpu, driver, injection: replace(
        stated_offer(gpu, str(driver), FACTS), machine="", injection=injection
    ),
    st.sampled_from(NAMES),
    st.sampled_from(DRIVERS),
    st.sampled_from(list(Injection)),
)


def against(need: Need, offer: Offer) -> list[str]:
    """What the rules say against it, but for what the node doesn't tell."""
    return [
        f"{reason.outcome}: {reason.message}"
        for reason in judge(need, offer, FACTS).reasons
        if reason.outcome is Fit.FAILS or (reason.outcome is Fit.UNKNOWN and reason.rule not in SILENT)
    ]


def with_driver(offer: Offer, driver: Version) -> Offer:
    return replace(offer, driver=driver, cuda=FACTS.driver_cuda(driver), observed=False)


def drivers_of(way: str) -> list[Version]:
    """All drivers that a remedy lets be installed."""
    if match := re.search(r"install a driver of branch (\d+)", way):
        return [Version.parse(match[1])]
    if match := re.search(r"install driver ([\d.]+) or newer(?:, up to branch (\d+))?", way):
        least, last = Version.parse(match[1]), int(match[2] or 10**6)
        return [least, *(d for d in DRIVERS if d >= least and d.major <= last)]
    return []


def images_of(way: str) -> list[Need]:
    """All images that a remedy lets be taken."""
    match = re.search(r"use (?:an image|a build) for (?:(sm_\d+) with )?CUDA ([\d.]+)(?: to ([\d.]+))?", way)
    if match is None:
        return []
    first, last = Version.parse(match[2]), Version.parse(match[3] or match[2])
    needs = [Need("", cuda=cuda, compat=cuda) for cuda in CUDAS if first <= cuda <= last]
    if match[1]:
        return [replace(need, architectures=Architectures.parse([match[1]])) for need in needs]
    return needs


def check(way: str, need: Need, offer: Offer) -> bool:
    """Takes one way; False where it isn't one of a driver or an image."""
    drivers, others = drivers_of(way), images_of(way)
    if way.startswith("take its cuda-compat package"):
        assert not against(replace(need, compat=None), offer), way
    elif way.startswith("let the node inject"):
        assert not against(need, replace(offer, injection=Injection.CDI)), way
    elif way.startswith("set NVIDIA_DISABLE_REQUIRE"):
        assert not against(replace(need, requirements=()), offer), way
    elif drivers and others:
        newest = with_driver(offer, max(drivers))
        for other in others:
            assert not against(other, newest), way
    elif drivers:
        for driver in drivers:
            assert not against(need, with_driver(offer, driver)), (way, str(driver))
    elif others:
        for other in others:
            assert not against(other, offer), (way, str(other.cuda))
    else:
        return False
    return True


@given(images, offers)
def test_a_remedy_leads_to_what_fits(image: Traits, offer: Offer) -> None:
    need = need_of(image, FACTS)
    for reason in judge(need, offer, FACTS).reasons:
        for way in reason.remedy.split(", or "):
            known = way == "" or check(way, need, offer)
            event(way.partition(" for ")[0].partition(" driver ")[0] if known else "no driver, no image")
            assert known or reason.rule in (
                Rule.CPU_TORCH,
                Rule.NO_CUDA,
                Rule.DRIVER_UNKNOWN,
                Rule.MACHINE,
            ), way


@given(images, offers)
def test_a_suggestion_leads_to_what_fits(image: Traits, offer: Offer) -> None:
    need = need_of(image, FACTS)
    found = nearest_fit(need, [offer], FACTS)
    event("none" if found is None else found.name.partition(" ")[0].partition(":")[0])
    if found is None:
        return
    kind, _, version = found.name.replace(":", " ").partition(" ")
    version = version.partition("-")[0]
    base = replace(image, installed=None)
    makers: dict[str, Callable[[str], Traits]] = {
        "torch": partial(pip, base=base if need.pip_torch else None),
        "nvidia/cuda": nvidia_cuda,
        "nvcr.io/nvidia/pytorch": ngc,
    }
    there = need_of(makers[kind](version), FACTS)
    # Every nvidia/cuda says NVIDIA_REQUIRE_CUDA; of some nobody looked up what.
    asked = tuple(r for r in there.requirements if r.variable != "CUDA_VERSION")
    there = replace(there, requirements=asked)
    if kind == "torch" and not need.pip_torch:
        there = replace(there, compat=need.compat)
    assert judge(there, offer, FACTS).outcome in (Fit.FITS, Fit.NOTES), found.name
