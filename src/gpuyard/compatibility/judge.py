"""Will an image run on a node: the rules, in the order in which a process would meet them (pure).

Each rule that has something to say gives a `VerdictReason`: the numbers it compared and what would mend it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from gpuyard.compatibility.facts import Facts, Gpu
from gpuyard.compatibility.forward import Library, Loaded, loaded_library
from gpuyard.compatibility.need import Need
from gpuyard.compatibility.offer import Injection, Offer
from gpuyard.compatibility.remedy import remedied
from gpuyard.compatibility.verdict import Fit, Rule, Verdict, VerdictReason
from gpuyard.compatibility.version import Capability, Version


def judge(need: Need, offer: Offer, facts: Facts) -> Verdict:
    """The verdict over one image on one node, with what would mend it."""
    reasons_of = partial(_reasons, facts=facts)
    return Verdict(offer, tuple(remedied(_reasons(need, offer, facts), need, offer, facts, reasons_of)))


def fits(need: Need, offer: Offer, facts: Facts) -> bool:
    """Whether it is known that the image runs there."""
    return Verdict(offer, tuple(_reasons(need, offer, facts))).outcome in (Fit.FITS, Fit.NOTES)


def _reasons(need: Need, offer: Offer, facts: Facts) -> list[VerdictReason]:
    """All that the rules have to say, without what would mend it."""
    reasons = list(judge_machine(need, offer).reasons)
    reasons += _gpu_and_driver(offer, facts)
    if need.cpu_only:
        reasons.append(_cpu_torch(need, offer))
    elif need.cuda is None:
        reasons.append(_no_cuda(need))
    else:
        reasons += _cuda(need, need.cuda, offer, facts)
    return [*reasons, *_requirements(need, offer)]


def judge_machine(need: Need, offer: Offer) -> Verdict:
    """The verdict over an image that needs no GPU."""
    if not need.machine or not offer.machine or need.machine == offer.machine:
        return Verdict(offer, ())
    reason = VerdictReason(
        Rule.MACHINE,
        Fit.FAILS,
        f"the image is for {need.machine}, the node's CPU is {offer.machine}",
        needs=need.machine,
        has=offer.machine,
        remedy=f"build it with --platform linux/{offer.machine}",
    )
    return Verdict(offer, (reason,))


def _no_cuda(need: Need) -> VerdictReason:
    """Nothing told of a CUDA so far; the layers may, once."""
    if not need.layers_read:
        message = "nothing that is known of the image says which CUDA it uses"
        remedy = "`gpuyard image check --read-layers` looks into its layers for a torch"
        return VerdictReason(Rule.NO_CUDA, Fit.UNKNOWN, message, remedy=remedy)
    lacking = "its torch doesn't say" if need.torch else "there is no torch in its layers, and nothing says"
    return VerdictReason(Rule.NO_CUDA, Fit.UNKNOWN, f"{lacking} which CUDA it uses")


def _cpu_torch(need: Need, offer: Offer) -> VerdictReason:
    """A torch that doesn't know of GPUs; on simulated ones the launcher lets it go on."""
    text = f"its torch {need.torch} ({need.torch_source}) is built without CUDA"
    if offer.simulated:
        return VerdictReason(Rule.CPU_TORCH, Fit.NOTES, f"{text}; on simulated GPUs it may run all the same")
    index = "from one of the CUDA indexes of https://download.pytorch.org/whl"
    return VerdictReason(
        Rule.CPU_TORCH,
        Fit.FAILS,
        f"{text}, so it would train on the CPU",
        remedy=f"install torch {index}"
        if need.pip_torch
        else f"pin a torch with CUDA in the requirements, {index}: it comes before the base's",
    )


def _gpu_and_driver(offer: Offer, facts: Facts) -> Iterator[VerdictReason]:
    """Whether the driver drives the GPU at all."""
    gpu = facts.gpu(offer.capability) if offer.capability else None
    if gpu is None or offer.driver is None:
        return
    if gpu.last_driver is not None and offer.driver.major > gpu.last_driver:
        yield VerdictReason(
            Rule.GPU_DROPPED,
            Fit.FAILS,
            f"drivers after {gpu.last_driver} no longer drive {gpu.architecture} GPUs "
            f"(compute capability {offer.capability}), and the driver is {offer.driver}",
            needs=f"driver {gpu.last_driver} at most",
            has=str(offer.driver),
        )
    # A node that runs is proof that its driver drives its GPU: the first branch isn't told per board.
    if not offer.observed and gpu.first_driver is not None and offer.driver.major < gpu.first_driver:
        yield VerdictReason(
            Rule.GPU_TOO_NEW,
            Fit.FAILS,
            f"the driver {offer.driver} is older than the first for {gpu.architecture} GPUs "
            f"(compute capability {offer.capability}), {gpu.first_driver}",
            needs=f"driver {gpu.first_driver}",
            has=str(offer.driver),
        )


def _cuda(need: Need, cuda: Version, offer: Offer, facts: Facts) -> Iterator[VerdictReason]:
    """Driver against CUDA, then code against GPU with the CUDA that the driver library ends up offering."""
    loaded = loaded_library(need, offer, facts)
    driver = _driver(cuda, offer, facts)
    offered = offer.cuda
    if loaded.library is Library.IMAGE and need.compat and _covers(need.compat, cuda, facts):
        offered = need.compat
        yield _by_forward(need.compat, cuda, offer, facts)
    elif driver is not None and driver.outcome is Fit.FAILS and loaded.library is not Library.UNKNOWN:
        short = need.compat is not None and need.compat.minor < cuda.minor
        only = f"its forward compatibility package is only for CUDA {need.compat}" if short else ""
        why = loaded.why or only
        yield replace(driver, message=f"{driver.message}; {why}") if why else driver
    elif loaded.may_fail(need, driver) and need.compat:
        yield _no_forward(need.compat, loaded, driver, offer, facts)
    elif driver is not None:
        yield driver
    failing = driver is not None and driver.outcome is Fit.FAILS and offered is offer.cuda
    for reason in _code(need, cuda, offered, offer, facts):
        if reason.outcome is Fit.FAILS or not failing:
            yield reason


def _covers(compat: Version, cuda: Version, facts: Facts) -> bool:
    """Whether the library of this compat package runs a program made with this CUDA."""
    bundled, least = facts.full_floor(compat), facts.oldest_driver(cuda)
    return bundled is not None and least is not None and bundled >= least


def _by_forward(compat: Version, cuda: Version, offer: Offer, facts: Facts) -> VerdictReason:
    return VerdictReason(
        Rule.FORWARD,
        Fit.NOTES,
        f"runs by forward compatibility: the image brings the driver library of CUDA {compat.minor}, "
        f"and driver {offer.driver} is one that it works on",
        needs=f"driver {facts.oldest_driver(cuda)}",
        has=str(offer.driver),
    )


def _no_forward(
    compat: Version, loaded: Loaded, driver: VerdictReason | None, offer: Offer, facts: Facts
) -> VerdictReason:
    """The image brings a driver library that this node can't load, or nobody knows whether it can."""
    has = str(offer.driver) if offer.driver else f"CUDA {offer.cuda}"
    needs = f"driver {facts.full_floor(compat)}"
    brings = f"the image brings the driver library of CUDA {compat.minor}"
    if loaded.library is Library.REFUSED:
        message = (
            f"{brings}, and NVIDIA's container runtime puts it before that of driver {has}, which ends in "
            f"error 804: {loaded.why}"
        )
        return VerdictReason(Rule.FORWARD, Fit.FAILS, message, needs=needs, has=has)
    message = f"{brings}; {loaded.why}"
    if loaded.library is Library.WRONG_BRANCH:
        message += "; NVIDIA's container toolkit before 1.19.1 loads it all the same (error 803)"
    elif driver is not None and driver.outcome is Fit.FAILS:
        message = f"{driver.message}; {message}"
        needs = driver.needs
    return VerdictReason(Rule.FORWARD, Fit.UNKNOWN, message, needs=needs, has=has)


def _driver(cuda: Version, offer: Offer, facts: Facts) -> VerdictReason | None:
    """The node's own driver against the CUDA of the image; None when all of it works."""
    full, least = facts.full_floor(cuda), facts.minor_floor(cuda)
    if offer.driver is None and offer.cuda is None:
        return VerdictReason(
            Rule.DRIVER_UNKNOWN,
            Fit.UNKNOWN,
            f"needs CUDA {cuda}, and the node doesn't say which driver it has",
            needs=f"driver {least or full}" if least or full else f"CUDA {cuda}",
            remedy="run GPU feature discovery on the cluster, or state --gpu and --driver",
        )
    has = f"{offer.driver}" if offer.driver else f"CUDA {offer.cuda}"
    if _reaches(offer, full, cuda):
        return None
    floor = least or full
    needs = f"driver {floor}" if floor else f"a driver for CUDA {cuda.minor}"
    if least and _reaches(offer, least, Version((cuda.major, 0))):
        return VerdictReason(
            Rule.MINOR_VERSION,
            Fit.NOTES,
            f"runs by minor-version compatibility: CUDA {cuda} comes with "
            f"{f'driver {full}' if full else 'another driver'}, the node has {has}; functions that need a "
            "newer driver fail with error 36",
            needs=str(full or ""),
            has=has,
        )
    known = f" (CUDA {offer.cuda})" if offer.driver and offer.cuda else ""
    return VerdictReason(
        Rule.DRIVER_TOO_OLD,
        Fit.FAILS,
        f"CUDA {cuda} needs {needs} or newer, the node has {has}{known}",
        needs=needs,
        has=has,
    )


def _reaches(offer: Offer, floor: Version | None, cuda: Version) -> bool:
    """Whether the driver is no older than the floor; by its CUDA where one of the two isn't known."""
    if offer.driver is not None and floor is not None:
        return offer.driver >= floor
    return offer.cuda is not None and offer.cuda.minor >= cuda.minor


def _code(
    need: Need, cuda: Version, offered: Version | None, offer: Offer, facts: Facts
) -> Iterator[VerdictReason]:
    """Whether the image's GPU code runs on this GPU."""
    device = offer.capability
    if device is None:
        message = "the node doesn't say which compute capability its GPUs have"
        yield VerdictReason(Rule.CAPABILITY_UNKNOWN, Fit.UNKNOWN, message)
        return
    if need.least_capability and device < need.least_capability:
        yield VerdictReason(
            Rule.NO_KERNEL_IMAGE,
            Fit.FAILS,
            f"NVIDIA's container {need.container} runs on compute capability {need.least_capability} or "
            f"newer, the GPU has {device}",
            needs=str(need.least_capability),
            has=str(device),
        )
    elif need.architectures is None:
        yield from _window(cuda, device, facts)
    elif not any(facts.runs_on(target, device, cuda) for target in need.architectures.cubins):
        yield _ptx(need, cuda, offered, device)


def _ptx(need: Need, cuda: Version, offered: Version | None, device: Capability) -> VerdictReason:
    """The verdict when no machine code fits: PTX may, if the driver is new enough to compile it."""
    assert need.architectures is not None
    built = f"is built for {need.architectures}"
    subject = f"torch {need.torch}" if need.torch else "its code"
    sm = device.sm
    if not any(ptx <= device for ptx in need.architectures.ptx):
        return VerdictReason(
            Rule.NO_KERNEL_IMAGE,
            Fit.FAILS,
            f"{subject} {built}, the GPU is {sm}: no kernel image is available for it",
            needs=sm,
            has=str(need.architectures),
        )
    if offered is None:
        message = f"{subject} {built}; on {sm} its PTX is compiled by the driver, whose CUDA isn't known"
        return VerdictReason(Rule.PTX, Fit.UNKNOWN, message, needs=f"CUDA {cuda.minor}")
    if offered.minor < cuda.minor:
        return VerdictReason(
            Rule.PTX,
            Fit.FAILS,
            f"{subject} {built}; on {sm} only its PTX could run, which needs a driver for CUDA {cuda.minor}, "
            f"and this one is for {offered.minor} (error 222)",
            needs=f"CUDA {cuda.minor}",
            has=f"CUDA {offered.minor}",
        )
    return VerdictReason(
        Rule.PTX,
        Fit.NOTES,
        f"{subject} {built}; on {sm} its PTX is compiled by the driver, so the first start is slow",
        needs=sm,
    )


def _dropped(gpu: Gpu, cuda: Version) -> bool:
    """Whether a CUDA came after the last that knows the GPU."""
    return gpu.last_cuda is not None and cuda.parts[: len(gpu.last_cuda.parts)] > gpu.last_cuda.parts


def _window(cuda: Version, device: Capability, facts: Facts) -> Iterator[VerdictReason]:
    """Without knowing what the code was built for: whether its CUDA knows this GPU at all."""
    gpu = facts.gpu(device)
    if gpu is None or gpu.first_cuda is None:
        message = f"which CUDA runs on compute capability {device} isn't known to this release of gpuyard"
        yield VerdictReason(Rule.CAPABILITY_UNKNOWN, Fit.UNKNOWN, message)
    elif _dropped(gpu, cuda):
        yield VerdictReason(
            Rule.CUDA_DROPPED_GPU,
            Fit.FAILS,
            f"CUDA {cuda} has dropped {gpu.architecture} GPUs (compute capability {device}); "
            f"the last for them is {gpu.last_cuda}",
            needs=f"CUDA {gpu.last_cuda} at most",
            has=f"CUDA {cuda}",
        )
    elif cuda.minor < gpu.first_cuda.minor:
        yield VerdictReason(
            Rule.CUDA_BEFORE_GPU,
            Fit.UNKNOWN,
            f"CUDA {cuda} is older than the first for {gpu.architecture} GPUs of compute capability "
            f"{device}, {gpu.first_cuda}: it runs there only if the image has PTX",
            needs=f"CUDA {gpu.first_cuda}",
            has=f"CUDA {cuda}",
        )


def _requirements(need: Need, offer: Offer) -> Iterator[VerdictReason]:
    """NVIDIA_REQUIRE_*, against the kernel driver as the toolkit does it."""
    for requirement in need.requirements:
        if requirement.holds(offer.properties()) is not False:
            continue
        properties = ", ".join(f"{name} {value}" for name, value in offer.properties().items() if value)
        text = f"{requirement.variable} ({_short(str(requirement))}) doesn't hold for {properties}"
        if offer.injection is Injection.LEGACY:
            yield VerdictReason(
                Rule.REQUIRE,
                Fit.FAILS,
                f"{text}, and this node's container runtime refuses it",
                needs=str(requirement),
                has=properties,
            )
            return
        yield VerdictReason(
            Rule.REQUIRE,
            Fit.NOTES,
            text
            + (
                "; this node doesn't check it (CDI)"
                if offer.injection is Injection.CDI
                else ": a node with the legacy container runtime would refuse it"
            ),
            needs=str(requirement),
            has=properties,
        )


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
