"""What is known about CUDA, drivers, torch, containers and GPUs, read once from `facts.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gpuyard.compatibility.version import Architectures, Capability, CodeTarget, Version

_FILE = Path(__file__).with_name("facts.toml")


@dataclass(frozen=True)
class Toolkit:
    """A CUDA release and the driver that ships with it, from which on all of it works; None: not known."""

    cuda: Version
    driver: Version | None
    source: str


@dataclass(frozen=True)
class Support:
    """A driver branch that NVIDIA supports, and until which month (`2028-06`)."""

    driver: int
    kind: str
    until: str


@dataclass(frozen=True)
class Forward:
    """The driver branches on which a compat package of this CUDA (and later ones) works.

    Attributes:
        base: oldest driver of each branch that does.
        contested: branches of which NVIDIA's own sources disagree.
    """

    cuda: Version
    base: tuple[Version, ...]
    contested: frozenset[int]
    source: str

    def works_on(self, driver: Version) -> bool | None:
        """Whether NVIDIA names this driver's branch as a base; None where its sources disagree."""
        if driver.major in self.contested:
            return None
        return any(b.major == driver.major and b <= driver for b in self.base)


@dataclass(frozen=True)
class TorchRelease:
    """A minor release of torch.

    Attributes:
        release: (major, minor).
        version: the patch release that was looked at.
        cuda: of the wheel on PyPI; None: not known.
        architectures: of that wheel on x86_64.
        variants: CUDA versions that wheels were published for.
    """

    release: Version
    version: Version
    cuda: Version | None
    architectures: Architectures | None
    variants: tuple[Version, ...]
    source: str


@dataclass(frozen=True)
class NvidiaContainer:
    """One of NVIDIA's PyTorch containers."""

    tag: Version
    torch: str
    cuda: Version
    driver: Version | None
    source: str


@dataclass(frozen=True)
class Gpu:
    """One compute capability: what CUDA and drivers know it; None where there is no bound or none known."""

    capability: Capability
    architecture: str
    models: tuple[str, ...]
    first_cuda: Version | None
    last_cuda: Version | None
    first_driver: int | None
    last_driver: int | None
    source: str


@dataclass(frozen=True)
class Product:
    """How a product's name tells its brand, and whether it is made for data centres; None: it depends."""

    pattern: re.Pattern[str]
    brand: str
    data_center: bool | None


@dataclass(frozen=True)
class Exclusion:
    """Machine code that doesn't run on a device although the general rule would let it."""

    code: frozenset[Capability]
    device: Capability
    until_cuda: Version | None


@dataclass(frozen=True)
class Facts:
    """All rows, in the file's order, with the look-ups that the verdict needs."""

    toolkits: tuple[Toolkit, ...]
    minor_floors: Mapping[Version, Version]
    branches: tuple[tuple[int, Version], ...]
    support: tuple[Support, ...]
    forward: tuple[Forward, ...]
    torch: Mapping[Version, TorchRelease]
    torch_variants: Mapping[tuple[Version, Version], Architectures]
    torch_builds: Mapping[tuple[Version, str], Architectures]
    torch_arm64: tuple[tuple[Version, Version], ...]
    exclusions: tuple[Exclusion, ...]
    renamed: Mapping[Capability, Capability]
    containers: Mapping[Version, NvidiaContainer]
    container_capabilities: tuple[tuple[Version, Capability], ...]
    container_builds: tuple[tuple[Version, str, Architectures], ...]
    gpus: tuple[Gpu, ...]
    products: tuple[Product, ...]

    def full_floor(self, cuda: Version) -> Version | None:
        """The oldest driver with all functions of this CUDA; of a minor version, of its first release."""
        same = self._shipped.get(cuda.minor, ())
        reached = [t for t in same if t.cuda <= cuda]
        return (reached[-1] if reached else same[0]).driver if same else None

    @cached_property
    def _shipped(self) -> Mapping[Version, Sequence[Toolkit]]:
        """Toolkits that came with a driver, by their minor version."""
        shipped: dict[Version, list[Toolkit]] = {}
        for toolkit in self.toolkits:
            if toolkit.driver is not None:
                shipped.setdefault(toolkit.cuda.minor, []).append(toolkit)
        return shipped

    def minor_floor(self, cuda: Version) -> Version | None:
        """The oldest driver that runs this CUDA by minor-version compatibility; None where there is none."""
        return self.minor_floors.get(cuda.minor) or self.minor_floors.get(Version((cuda.major,)))

    def driver_cuda(self, driver: Version) -> Version | None:
        """The CUDA version that a driver reports; of a branch newer than all known, the newest known."""
        reached = [cuda for branch, cuda in self.branches if branch <= driver.major]
        return reached[-1] if reached else None

    def oldest_driver(self, cuda: Version) -> Version | None:
        """What to ask an administrator for: the oldest driver that runs this CUDA at all."""
        return self.minor_floor(cuda) or self.full_floor(cuda)

    def supported_branch(self, least: Version, gpu: Gpu | None) -> Support | None:
        """The branch to install where one from `least` on is needed: that which NVIDIA supports longest.

        Args:
            least: the oldest driver that will do.
            gpu: what it has to drive; None: not known.
        """
        last = gpu.last_driver if gpu and gpu.last_driver else None
        fitting = [s for s in self.support if s.driver >= least.major and (last is None or s.driver <= last)]
        return max(fitting, key=lambda s: s.until, default=None)

    def forward_rule(self, cuda: Version) -> Forward | None:
        """On which branches the compat package of this CUDA works; None when nothing is stated."""
        reached = [rule for rule in self.forward if rule.cuda <= cuda.minor]
        return reached[-1] if reached else None

    def torch_architectures(self, torch: Version, cuda: Version, machine: str) -> Architectures | None:
        """What the wheel of this torch for this CUDA was built for; None when nobody knows.

        Args:
            torch: its version.
            cuda: of the wheel.
            machine: as Kubernetes writes it, "amd64" or "arm64".
        """
        if machine == "amd64":
            if found := self.torch_variants.get((torch.minor, cuda.minor)):
                return found
            release = self.torch.get(torch.minor)
            if release and release.cuda == cuda.minor:
                return release.architectures
        return self.torch_builds.get((cuda.minor, machine))

    def pypi_cuda(self, torch: Version, machine: str) -> Version | None:
        """The CUDA of PyPI's wheel of this torch; None: it has none, or nobody knows (`pypi_is_cpu`)."""
        if machine == "arm64":
            reached = [cuda for first, cuda in self.torch_arm64 if first <= torch.minor]
            return reached[-1] if reached else None
        release = self.torch.get(torch.minor)
        return release.cuda if release else None

    def pypi_is_cpu(self, torch: Version, machine: str) -> bool:
        """Whether PyPI's wheel of this torch is known to be built for the CPU alone."""
        return machine == "arm64" and torch.minor < self.torch_arm64[0][0]

    def gpu(self, capability: Capability) -> Gpu | None:
        """The row of this capability, else of the next lower one of its major version."""
        capability = self.renamed.get(capability, capability)
        near = [g for g in self.gpus if g.capability.major == capability.major and g.capability <= capability]
        return max(near, key=lambda gpu: gpu.capability) if near else None

    def gpu_of_model(self, name: str) -> Gpu | None:
        """The row that lists this model by name; `RTX 30xx` stands for every number."""
        wanted = _words(name)
        for gpu in self.gpus:
            for model in gpu.models:
                if re.fullmatch(re.escape(_words(model)).replace("xx", r"[1-9]\d(?:ti|super)?"), wanted):
                    return gpu
        return None

    def product(self, name: str) -> Product | None:
        """Brand and class of a product by its name."""
        text = re.sub(r"[\s_-]+", " ", name).strip().lower()
        return next((product for product in self.products if product.pattern.search(text)), None)

    def container_capability(self, tag: Version) -> Capability | None:
        """The oldest compute capability that NVIDIA's container of this month runs on."""
        reached = [capability for first, capability in self.container_capabilities if first <= tag]
        return reached[-1] if reached else None

    def container_architectures(self, tag: Version, machine: str) -> Architectures | None:
        """What the torch in NVIDIA's container of this month was built for; None when nobody knows."""
        reached = [built for first, cpu, built in self.container_builds if cpu == machine and first <= tag]
        return reached[-1] if reached else None

    def runs_on(self, target: CodeTarget, device: Capability, cuda: Version | None) -> bool:
        """The cubin rule: same major version, minor no less, with the exceptions listed."""
        code, device = (self.renamed.get(c, c) for c in (target.capability, device))
        if target.suffix == "a":
            return code == device
        if code.major != device.major or code.minor > device.minor:
            return False
        return not any(
            target.capability in rule.code
            and device == self.renamed.get(rule.device, rule.device)
            and (rule.until_cuda is None or cuda is None or cuda < rule.until_cuda)
            for rule in self.exclusions
        )


@cache
def load_facts() -> Facts:
    """The facts of this release."""
    raw = tomllib.loads(_FILE.read_text("utf-8"))
    published: dict[Version, list[str]] = {
        _version(row["release"]): [*row["stable"], *row["experimental"]] for row in raw["torch_cuda"]
    }
    releases = [_torch(row, published) for row in raw["torch"]]
    return Facts(
        toolkits=tuple(
            Toolkit(_version(row["cuda"]), _optional(row.get("driver")), row["source"])
            for row in raw["toolkit"]
        ),
        minor_floors={_version(row["cuda"]): _version(row["driver"]) for row in raw["minor_version"]},
        branches=tuple((row["driver"], _version(row["cuda"])) for row in raw["branch"]),
        support=tuple(Support(row["driver"], row["kind"], row["until"]) for row in raw["support"]),
        forward=tuple(
            Forward(
                _version(row["cuda"]),
                tuple(map(_version, row.get("base", ()))),
                frozenset(row.get("contested", ())),
                row["source"],
            )
            for row in raw["forward"]
        ),
        torch={release.release: release for release in releases},
        torch_variants={
            (_version(row["release"]), _version(row["cuda"])): Architectures.parse(row["architectures"])
            for row in raw["torch_variant"]
        },
        torch_builds={
            (_version(row["cuda"]), row["machine"]): Architectures.parse(row["architectures"])
            for row in raw["torch_build"]
        },
        torch_arm64=tuple((_version(r["release"]), _version(r["cuda"])) for r in raw["torch_pypi_arm64"]),
        exclusions=tuple(map(_exclusion, raw["cubin_exclusion"])),
        renamed={Capability.parse(r["old"]): Capability.parse(r["new"]) for r in raw["renamed_capability"]},
        containers={_version(row["tag"]): _container(row) for row in raw["ngc"]},
        container_capabilities=tuple(
            (_version(row["tag"]), Capability.parse(row["capability"])) for row in raw["ngc_capability"]
        ),
        container_builds=tuple(
            (_version(row["tag"]), row["machine"], Architectures.parse(row["architectures"]))
            for row in raw["ngc_architectures"]
        ),
        gpus=tuple(map(_gpu, raw["gpu"])),
        products=tuple(
            Product(re.compile(row["pattern"]), row["brand"], row.get("data_center"))
            for row in raw["product"]
        ),
    )


def variant_cuda(word: str) -> Version | None:
    """`cu126` → 12.6; None for anything else, `cpu` too."""
    match = re.fullmatch(r"cu(\d{2,3})(\d)", word)
    return Version.parse(f"{match[1]}.{match[2]}") if match else None


def variant_name(cuda: Version) -> str:
    """12.6 → `cu126`."""
    major, minor = cuda.minor.parts
    return f"cu{major}{minor}"


def _torch(row: Mapping[str, Any], published: Mapping[Version, Sequence[str]]) -> TorchRelease:
    version = _version(row["release"])
    named = [cuda for word in row["variants"] if (cuda := variant_cuda(word)) is not None]
    variants = {*named, *map(_version, published.get(version.minor, ()))}
    words = row.get("architectures")
    return TorchRelease(
        release=version.minor,
        version=version,
        cuda=_optional(row.get("cuda")),
        architectures=Architectures.parse(words) if words else None,
        variants=tuple(sorted(variants)),
        source=row["source"],
    )


def _container(row: Mapping[str, Any]) -> NvidiaContainer:
    return NvidiaContainer(
        _version(row["tag"]),
        row.get("torch", ""),
        _version(row["cuda"]),
        _optional(row.get("driver")),
        row["source"],
    )


def _gpu(row: Mapping[str, Any]) -> Gpu:
    return Gpu(
        capability=Capability.parse(row["capability"]),
        architecture=row["architecture"],
        models=tuple(row["models"]),
        first_cuda=_optional(row["first_cuda"]),
        last_cuda=_optional(row.get("last_cuda")),
        first_driver=row.get("first_driver"),
        last_driver=row.get("last_driver"),
        source=row["source"],
    )


def _exclusion(row: Mapping[str, Any]) -> Exclusion:
    code = Architectures.parse(row["code"]).cubins
    return Exclusion(
        frozenset(target.capability for target in code),
        Capability.parse(row["device"]),
        _optional(row.get("until_cuda")),
    )


def _version(text: str) -> Version:
    return Version.parse(text)


def _optional(text: str | None) -> Version | None:
    return Version.parse(text) if text else None


def _words(name: str) -> str:
    return re.sub(r"[\s_-]+|nvidia|tesla|geforce", "", name.lower())
