"""What an image needs of the node that it runs on, read from its config and the packages known to be in it.

Which fact counts: torch that came with pip brings its own CUDA, so its pins and its local version tag (the
higher of the two) win over the base image's CUDA_VERSION, which such a process never loads. Without it the
image's own torch (NVIDIA's or pytorch/pytorch's) runs on the image's CUDA_VERSION; else that is all there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gpuyard.images.cuda.facts import Facts, variant_cuda
from gpuyard.images.cuda.require import Requirement, requirements_of
from gpuyard.images.cuda.version import Architectures, Capability, Version

#: Labels by which a build says what it put into an image, so that the config alone tells what it needs.
LABEL_TORCH = "io.gpuyard.torch"
LABEL_CUDA_RUNTIME = "io.gpuyard.cuda-runtime"

_RUNTIME = re.compile(r"nvidia-cuda-runtime(?:-cu\d+)?|cuda-toolkit")
_PIN = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)", re.MULTILINE)
_NGC = re.compile(r"(?:^|/)nvidia/pytorch:(\d{2}\.\d{2})")
_PYTORCH = re.compile(r"(?:^|/)pytorch/pytorch:v?(\d+(?:\.\d+)+)-cuda(\d+\.\d+)")
_CUDA_TAG = re.compile(r"(?:^|/)nvidia/cuda:v?(\d+(?:\.\d+)+)")
_COMPAT = re.compile(r"cuda-compat-(\d+)-(\d+)")


@dataclass(frozen=True)
class Image:
    """What is known of one image for one platform without looking into its layers.

    Attributes:
        reference: as the user named it.
        machine: the image's platform as Kubernetes names it: "amd64", "arm64"; empty when not known.
        env: the config's environment.
        labels: the config's labels.
        distributions: Python distributions known to be in it, version by name, such as a lock's pins.
        base: reference of the image that it was built on; empty when not known.
        entrypoint: the config's.
    """

    reference: str
    machine: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    entrypoint: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
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
        cpu_only: its torch is built without CUDA.
        pip_torch: torch and its CUDA came as wheels, so another variant of them can be chosen.
        architectures: what its GPU code was built for; None: not known.
        least_capability: below which its maker says that it doesn't run.
        compat: CUDA of the forward compatibility package in it; None: it has none.
        requirements: its NVIDIA_REQUIRE_* variables.
        container: month of NVIDIA's PyTorch container that it is or is based on.
        findings: every fact, also those that don't count.
    """

    reference: str
    machine: str = ""
    cuda: Version | None = None
    cuda_source: str = ""
    torch: str = ""
    cpu_only: bool = False
    pip_torch: bool = False
    architectures: Architectures | None = None
    least_capability: Capability | None = None
    compat: Version | None = None
    requirements: tuple[Requirement, ...] = ()
    container: Version | None = None
    findings: tuple[Finding, ...] = ()


def need_of(image: Image, facts: Facts) -> Need:
    """What the image needs; without a word of CUDA anywhere, nothing."""
    own = _with_labels(image)
    base = _base_need(image, facts)
    torch = own.get("torch", "")
    found = list(_pip_findings(own, facts))
    if not torch and not found:
        return base
    runtime = max(found, key=lambda pair: pair[0]) if found else None
    cuda = runtime[0] if runtime else base.cuda if torch else None
    local = torch.partition("+")[2]
    architectures = None
    if torch and cuda and (version := _version(torch)):
        architectures = facts.torch_architectures(version, cuda, image.machine or "amd64")
    return replace(
        base,
        torch=torch or base.torch,
        cpu_only=local.startswith("cpu"),
        pip_torch=bool(torch),
        cuda=None if local.startswith("cpu") else cuda,
        cuda_source=runtime[1].source if runtime else base.cuda_source,
        architectures=architectures,
        least_capability=None,
        findings=(
            *([Finding("torch", torch, _source(image, "torch"))] if torch else ()),
            *(finding for _, finding in found),
            *(replace(f, counts=f.counts and not runtime) for f in base.findings),
        ),
    )


def pins_of(requirements: str) -> dict[str, str]:
    """`name==version` lines of a requirements file or lock, names normalised."""
    return {_normal(match[1]): match[2] for match in _PIN.finditer(requirements)}


def labels_for(distributions: Mapping[str, str]) -> dict[str, str]:
    """The labels that a build gives an image with these distributions, for `need_of` to read later."""
    known = {_normal(name): version for name, version in distributions.items()}
    runtime = next((known[name] for name in sorted(known) if _RUNTIME.fullmatch(name)), "")
    labels = {LABEL_TORCH: known.get("torch", ""), LABEL_CUDA_RUNTIME: runtime}
    return {name: value for name, value in labels.items() if value}


def _with_labels(image: Image) -> dict[str, str]:
    """The distributions, and those that labels tell of."""
    labelled = {
        "torch": image.labels.get(LABEL_TORCH, ""),
        "nvidia-cuda-runtime": image.labels.get(LABEL_CUDA_RUNTIME, ""),
    }
    own = {_normal(name): version for name, version in image.distributions.items()}
    return {name: version for name, version in labelled.items() if version} | own


def _source(image: Image, name: str) -> str:
    return "package" if name in map(_normal, image.distributions) else "label"


def _pip_findings(own: Mapping[str, str], facts: Facts) -> Iterator[tuple[Version, Finding]]:
    """CUDA versions that the packages tell of; torch without a tag or a pin is taken as PyPI's."""
    found = False
    for name in sorted(own):
        if _RUNTIME.fullmatch(name) and (version := _version(own[name])):
            # The third number of a runtime is its build, not CUDA's patch release.
            yield version.minor, Finding("CUDA", str(version.minor), f"{name}=={own[name]}")
            found = True
    torch = own.get("torch", "")
    local = torch.partition("+")[2]
    if cuda := variant_cuda(local):
        yield cuda, Finding("CUDA", str(cuda), f"torch=={torch}")
        found = True
    version = _version(torch)
    if torch and version and not local and not found:
        release = facts.torch.get(version.minor)
        if release and release.cuda:
            yield release.cuda, Finding("CUDA", str(release.cuda), f"torch=={torch}, as PyPI has it")


def _base_need(image: Image, facts: Facts) -> Need:
    """The need by environment and tag, as if nothing had been installed on top."""
    env, reference = image.env, image.base or image.reference
    findings = list(_base_findings(image, facts))
    cuda = next((f for f in findings if f.what == "CUDA"), None)
    month = next((_version(f.value) for f in findings if f.what == "container"), None)
    tagged = _PYTORCH.search(reference)
    torch = env.get("PYTORCH_VERSION", "") or (tagged[1] if tagged else "")
    if not torch and month and month in facts.containers:
        torch = facts.containers[month].torch
    version = Version.parse(cuda.value) if cuda else None
    architectures = _declared_architectures(env) if month else None
    torch_version = _version(torch)
    if not month and torch_version and version:
        architectures = facts.torch_architectures(torch_version, version, image.machine or "amd64")
    return Need(
        reference=image.reference,
        machine=image.machine,
        cuda=version,
        cuda_source=cuda.source if cuda else "",
        torch=torch,
        architectures=architectures,
        least_capability=facts.container_capability(month) if month else None,
        compat=_compat(env, version if month else None),
        requirements=requirements_of(env),
        container=month,
        findings=_first_counts(findings),
    )


def _base_findings(image: Image, facts: Facts) -> Iterator[Finding]:
    """What environment and tag say, the image's own word before what its tag lets expect."""
    env, reference = image.env, image.base or image.reference
    tagged = _NGC.search(reference)
    month = env.get("NVIDIA_PYTORCH_VERSION", "") or (tagged[1] if tagged else "")
    if month and _version(month):
        source = "env NVIDIA_PYTORCH_VERSION" if env.get("NVIDIA_PYTORCH_VERSION") else "tag"
        yield Finding("container", month, source)
    if env.get("PYTORCH_VERSION"):
        yield Finding("torch", env["PYTORCH_VERSION"], "env PYTORCH_VERSION")
    if match := _PYTORCH.search(reference):
        yield Finding("CUDA", match[2], "tag")
    for variable in ("CUDA_VERSION", "NV_CUDA_CUDART_VERSION"):
        if found := _version(env.get(variable, "")):
            # As above: the cudart package's third number is its build.
            value = found if variable == "CUDA_VERSION" else found.minor
            yield Finding("CUDA", str(value), f"env {variable}")
    container = facts.containers.get(_version(month) or Version(()))
    if container:
        yield Finding("CUDA", str(container.cuda), f"NVIDIA's container of {container.tag}")
    if match := _CUDA_TAG.search(reference):
        yield Finding("CUDA", match[1], "tag")


def _first_counts(findings: list[Finding]) -> tuple[Finding, ...]:
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


def _compat(env: Mapping[str, str], container_cuda: Version | None) -> Version | None:
    """CUDA of the compat package; NVIDIA's own containers all have one."""
    match = _COMPAT.search(env.get("NV_CUDA_COMPAT_PACKAGE", ""))
    if match:
        return Version.parse(f"{match[1]}.{match[2]}")
    return container_cuda


def _version(text: str) -> Version | None:
    try:
        return Version.parse(text)
    except ValueError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
