"""What an image needs of the node that it runs on, read from its config and the packages known to be in it.

Which fact counts, for the torch that a program finds (`images/contents/torch.py` says which that is):

1. a torch that the base brings: its torch/version.py; for NVIDIA's own the container that it was made for,
2. a wheel: the higher of its local version tag (`+cu124`) and the pin of nvidia-cuda-runtime; where it has
   neither, what PyPI has,
3. without a word of torch's: the image's CUDA_VERSION, then its tag.

A CUDA runtime that came as a wheel counts beside each of them: something loads it. The CUDA_VERSION of the
image never counts for a torch that says its own, as such a process doesn't load the image's libraries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gpuyard.compatibility.facts import Facts, variant_cuda
from gpuyard.compatibility.nvidia_require import NvidiaRequirement, requirements_of
from gpuyard.compatibility.version import Architectures, Capability, Version
from gpuyard.images.contents.torch import NO_CUDA, Installed, Torch

_NGC = re.compile(r"(?:^|/)nvidia/pytorch:(\d{2}\.\d{2})")
_PYTORCH = re.compile(r"(?:^|/)pytorch/pytorch:v?(\d+(?:\.\d+)+)-cuda(\d+\.\d+)")
_CUDA_TAG = re.compile(r"(?:^|/)nvidia/cuda:v?(\d+(?:\.\d+)+)")
_COMPAT = re.compile(r"cuda-compat-(\d+)-(\d+)")
_DISTRIBUTION = "/usr/lib/python3/dist-packages"


@dataclass(frozen=True)
class Traits:
    """What is known of one image for one platform.

    Attributes:
        reference: as the user named it.
        machine: the image's platform as Kubernetes names it: "amd64", "arm64"; empty when not known.
        env: the config's environment.
        labels: the config's labels.
        installed: what its layers were read to hold; None: they weren't, and labels may say it.
        base: reference of the image that it was built on; empty when not known.
        entrypoint: the config's.
    """

    reference: str
    machine: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    installed: Installed | None = None
    base: str = ""
    entrypoint: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFact:
    """One fact about an image, where it was found, and whether the need follows from it."""

    what: str
    value: str
    source: str
    counts: bool = True


@dataclass(frozen=True)
class Need:
    """What an image needs.

    Attributes:
        reference: the image.
        machine: CPU architecture; empty when not known.
        cuda: the CUDA that its process uses; None: none that is known of.
        cuda_source: where that was found.
        torch: version of its torch; empty when there is none that is known of.
        torch_source: where that was found.
        cpu_only: its torch is built without CUDA.
        pip_torch: torch came as a wheel, so another variant of it can be chosen.
        base_torch: torch is known to lie among the base's packages, where a wheel would come before it.
        architectures: what its GPU code was built for; None: not known.
        least_capability: below which its maker says that it doesn't run.
        compat: CUDA of the forward compatibility package in it; None: it has none.
        compat_by_script: its own start script tries the package, and leaves it off where it fails; without,
            NVIDIA's container runtime puts it first untried.
        requirements: its NVIDIA_REQUIRE_* variables.
        container: month of NVIDIA's PyTorch container that it is or is based on.
        layers_read: what isn't known of it isn't in its layers either.
        findings: every fact, also those that don't count.
    """

    reference: str
    machine: str = ""
    cuda: Version | None = None
    cuda_source: str = ""
    torch: str = ""
    torch_source: str = ""
    cpu_only: bool = False
    pip_torch: bool = False
    base_torch: bool = False
    architectures: Architectures | None = None
    least_capability: Capability | None = None
    compat: Version | None = None
    compat_by_script: bool = False
    requirements: tuple[NvidiaRequirement, ...] = ()
    container: Version | None = None
    layers_read: bool = False
    findings: tuple[ImageFact, ...] = ()


def need_of(image: Traits, facts: Facts) -> Need:
    """What the image needs; without a word of CUDA anywhere, nothing."""
    installed = image.installed or Installed.of_labels(image.labels)
    torch = installed.torch
    declared = replace(_declared(image, torch, facts), layers_read=image.installed is not None)
    found = list(_runtime_findings(installed.runtime))
    if torch is None:
        return _with_runtime(declared, found)
    said_too = tuple(f for f in declared.findings if (f.what, f.value) != ("torch", torch.version))
    declared = replace(declared, findings=said_too)
    source = _source(torch, image)
    told = ImageFact("torch", torch.version, source)
    from_base = bool(torch.folder)
    need = replace(
        declared, torch=torch.version, torch_source=source, pip_torch=not from_base, base_torch=from_base
    )
    if torch.without_cuda or _is_pypi_s_cpu(installed, image.machine, facts):
        why = _why_without(torch, image.machine)
        findings = (told, ImageFact("CUDA", NO_CUDA, why), *_unused(declared.findings))
        return replace(need, cpu_only=True, cuda=None, cuda_source="", architectures=None, findings=findings)
    if _is_container(torch, declared):
        return _with_runtime(replace(need, findings=(told, *declared.findings)), found)
    found += _torch_findings(torch, image.machine, facts, pinned=bool(found))
    best = max(found, key=_cuda, default=ImageFact("CUDA", str(declared.cuda or ""), declared.cuda_source))
    cuda = _version(best.value)
    return replace(
        need,
        cuda=cuda,
        cuda_source=best.source,
        architectures=_architectures(installed, torch, cuda, declared, facts),
        least_capability=None,
        findings=(told, *found, *(_unused(declared.findings) if found else declared.findings)),
    )


def _source(torch: Torch, image: Traits) -> str:
    """Where the torch lies, in words."""
    if not torch.folder:
        return "a wheel of the build"
    return f"the base's, in {torch.folder}" if image.base else f"in {torch.folder}"


def _why_without(torch: Torch, machine: str) -> str:
    if torch.without_cuda:
        return "torch/version.py" if torch.cuda else f"torch=={torch.version}"
    return f"torch=={torch.version}, as PyPI has it for {machine}"


def _is_pypi_s_cpu(installed: Installed, machine: str, facts: Facts) -> bool:
    """Whether the torch is a wheel that PyPI has for the CPU alone: others say `+cu126`, or pin a CUDA."""
    torch = installed.torch
    if torch is None or torch.local or torch.folder or torch.cuda or installed.runtime:
        return False
    version = _version(torch.version)
    return version is not None and facts.pypi_is_cpu(version, machine)


def _is_container(torch: Torch, declared: Need) -> bool:
    """Whether the torch is NVIDIA's own, in the container that it was made for."""
    month = _version(torch.container)
    return bool(torch.folder and month and month == declared.container and declared.cuda)


def _with_runtime(need: Need, found: list[ImageFact]) -> Need:
    """The need with a CUDA runtime in the image that isn't torch's; the newer CUDA counts."""
    if not found:
        return need
    [runtime] = found
    if need.torch and need.cuda and need.cuda >= _cuda(runtime):
        return replace(need, findings=(*need.findings, replace(runtime, counts=False)))
    return replace(
        need,
        cuda=_cuda(runtime),
        cuda_source=runtime.source,
        architectures=None,
        least_capability=None,
        findings=(runtime, *_unused(need.findings)),
    )


def _architectures(
    installed: Installed, torch: Torch, cuda: Version | None, declared: Need, facts: Facts
) -> Architectures | None:
    """What PyTorch's own builds are made for; None for those of others, which nobody published."""
    own = (
        not torch.folder
        or bool(variant_cuda(torch.local))
        or (bool(installed.runtime) and torch.folder != _DISTRIBUTION)
        or torch.version == declared.torch
    )
    version = _version(torch.version)
    if not own or cuda is None or version is None:
        return None
    return facts.torch_architectures(version, cuda, declared.machine or "amd64")


def _runtime_findings(runtime: str) -> Iterator[ImageFact]:
    if version := _version(runtime):
        # The third number of a runtime is its build, not CUDA's patch release.
        yield ImageFact("CUDA", str(version.minor), f"nvidia-cuda-runtime=={runtime}")


def _torch_findings(torch: Torch, machine: str, facts: Facts, *, pinned: bool) -> Iterator[ImageFact]:
    """CUDA versions that a torch tells of.

    Args:
        torch: with CUDA, as far as is known.
        machine: CPU architecture of the image.
        facts: what is known.
        pinned: a runtime is installed beside it.
    """
    if _version(torch.cuda):
        yield ImageFact("CUDA", torch.cuda, "torch/version.py")
        return
    if cuda := variant_cuda(torch.local):
        yield ImageFact("CUDA", str(cuda), f"torch=={torch.version}")
        return
    version = _version(torch.version)
    # Another build looks the same from outside, but such a one isn't known to lie around.
    if version is None or torch.local or pinned or torch.folder:
        return
    if cuda := facts.pypi_cuda(version, machine or "amd64"):
        yield ImageFact("CUDA", str(cuda), f"torch=={torch.version}, as PyPI has it")


def _cuda(finding: ImageFact) -> Version:
    return Version.parse(finding.value)


def _unused(findings: tuple[ImageFact, ...]) -> tuple[ImageFact, ...]:
    return tuple(replace(finding, counts=False) for finding in findings)


def _declared(image: Traits, installed: Torch | None, facts: Facts) -> Need:
    """The need by environment and tag, as if nothing had been installed on top."""
    env, reference = image.env, image.base or image.reference
    findings = list(_declared_findings(image, installed, facts))
    cuda = next((f for f in findings if f.what == "CUDA"), None)
    month = next((_version(f.value) for f in findings if f.what == "container"), None)
    tagged = _PYTORCH.search(reference)
    torch, torch_source = _declared_torch(env, tagged[1] if tagged else "", month, facts)
    version = Version.parse(cuda.value) if cuda else None
    architectures = None
    if month:
        known = facts.container_architectures(month, image.machine or "amd64")
        architectures = _declared_architectures(env) or known
    torch_version = _version(torch)
    if not month and torch_version and version:
        architectures = facts.torch_architectures(torch_version, version, image.machine or "amd64")
    return Need(
        reference=image.reference,
        machine=image.machine,
        cuda=version,
        cuda_source=cuda.source if cuda else "",
        torch=torch,
        torch_source=torch_source,
        architectures=architectures,
        least_capability=facts.container_capability(month) if month else None,
        compat=_compat(env, reference, version, container=month is not None),
        compat_by_script=month is not None,
        requirements=requirements_of(env),
        container=month,
        findings=_first_counts(findings),
    )


def _declared_torch(
    env: Mapping[str, str], tagged: str, month: Version | None, facts: Facts
) -> tuple[str, str]:
    """The torch that environment or tag tell of, and which of them does."""
    if env.get("PYTORCH_VERSION"):
        return env["PYTORCH_VERSION"], "env PYTORCH_VERSION"
    if tagged:
        return tagged, "tag"
    container = facts.containers.get(month) if month else None
    if container and container.torch:
        return container.torch, f"NVIDIA's container of {container.tag}"
    return "", ""


def _declared_findings(image: Traits, installed: Torch | None, facts: Facts) -> Iterator[ImageFact]:
    """What environment and tag say, the image's own word before what its tag lets expect."""
    env, reference = image.env, image.base or image.reference
    tagged = _NGC.search(reference)
    month = ""
    for said, source in (
        (env.get("NVIDIA_PYTORCH_VERSION", ""), "env NVIDIA_PYTORCH_VERSION"),
        (tagged[1] if tagged else "", "tag"),
        # NVIDIA's torch isn't published as a wheel: where it is, the container is.
        (installed.container if installed else "", "its torch's version"),
    ):
        if not month and _version(said):
            month = said
            yield ImageFact("container", month, source)
    if env.get("PYTORCH_VERSION"):
        yield ImageFact("torch", env["PYTORCH_VERSION"], "env PYTORCH_VERSION")
    if match := _PYTORCH.search(reference):
        yield ImageFact("CUDA", match[2], "tag")
    for variable in ("CUDA_VERSION", "NV_CUDA_CUDART_VERSION"):
        if found := _version(env.get(variable, "")):
            # As above: the cudart package's third number is its build.
            value = found if variable == "CUDA_VERSION" else found.minor
            yield ImageFact("CUDA", str(value), f"env {variable}")
    container = facts.containers.get(_version(month) or Version(()))
    if container:
        yield ImageFact("CUDA", str(container.cuda), f"NVIDIA's container of {container.tag}")
    if match := _CUDA_TAG.search(reference):
        yield ImageFact("CUDA", match[1], "tag")


def _first_counts(findings: list[ImageFact]) -> tuple[ImageFact, ...]:
    seen: set[str] = set()
    marked = []
    for finding in findings:
        marked.append(replace(finding, counts=finding.what not in seen))
        seen.add(finding.what)
    return tuple(marked)


def _declared_architectures(env: Mapping[str, str]) -> Architectures | None:
    """What NVIDIA's container says that its torch was built for."""
    try:
        return Architectures.parse(re.split(r"[\s;]+", env["TORCH_CUDA_ARCH_LIST"].strip()))
    except (KeyError, ValueError):
        return None


def _compat(
    env: Mapping[str, str], reference: str, cuda: Version | None, *, container: bool
) -> Version | None:
    """CUDA of the compat package.

    NVIDIA's PyTorch containers and nvidia/cuda all have one. Configs of nvidia/cuda name it up to CUDA 12.4;
    later ones, and what is built on them, are known by NV_CUDA_CUDART_VERSION, which nobody else sets.
    """
    match = _COMPAT.search(env.get("NV_CUDA_COMPAT_PACKAGE", ""))
    if match:
        return Version.parse(f"{match[1]}.{match[2]}")
    if container:
        return cuda
    has_one = bool(env.get("NV_CUDA_CUDART_VERSION") or _CUDA_TAG.search(reference))
    return cuda.minor if cuda and has_one else None


def _version(text: str) -> Version | None:
    try:
        return Version.parse(text)
    except ValueError:
        return None
