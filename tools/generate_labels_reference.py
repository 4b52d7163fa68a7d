"""Writes docs/reference/labels.md; --check says what differs.

Names and values are those of the recorded nodes, which tests compare with what the agent writes. A label that
no row is about, or a row that no recorded node has a label of, is a mistake.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_FILE = _ROOT / "docs/reference/labels.md"
_NODES = _ROOT / "tests/unit/agent/labels/node_shapes"
_MOST_VALUES = 3

# Capitals stand for a part that differs, braces for one of several, brackets for what may be missing.
_NVIDIAS = {
    "nvidia.com/gpu.present": "There are GPUs of NVIDIA's.",
    "nvidia.com/gpu.machine": "What its maker calls the machine.",
    "nvidia.com/gpu.mode": "Whether the GPUs drive displays: `graphics`, `compute` or `unknown`.",
    "nvidia.com/gpu.clique": "NVLink domain of several nodes, and the part of it.",
    "nvidia.com/gpu.family": "Architecture.",
    "nvidia.com/gpu.compute.{major,minor}": "Compute capability.",
    "nvidia.com/mig.capable": "Whether a GPU can be split.",
    "nvidia.com/mig.strategy": "Of the agent; not there for `none`.",
    "nvidia.com/mps.capable": "Whether GPUs are shared by MPS.",
    "nvidia.com/gfd.timestamp": "When the agent started (seconds since 1970).",
    "nvidia.com/cuda.driver-version.{full,major,minor,revision}": "The driver.",
    "nvidia.com/cuda.runtime-version.{full,major,minor}": "The newest CUDA that the driver can.",
    "nvidia.com/cuda.driver.{major,minor,rev}": "The same, by the deprecated names.",
    "nvidia.com/cuda.runtime.{major,minor}": "The same, by the deprecated names.",
}
_RESOURCES = {
    "nvidia.com/RESOURCE.product": "NVIDIA's name; `-MIG-1g.10gb` of a part, `-MIG-INVALID` where parts "
    "aren't as the strategy `single` needs, `-SHARED` where several containers have one under this name.",
    "nvidia.com/RESOURCE.count": "How many there are; shares aren't counted.",
    "nvidia.com/RESOURCE.replicas": "How many containers share one; 0 where none can be had.",
    "nvidia.com/RESOURCE.sharing-strategy": "`none`, `time-slicing` or `mps`.",
    "nvidia.com/RESOURCE.memory": "Memory of one (MiB); shares aren't subtracted.",
    "nvidia.com/RESOURCE.multiprocessors": "Of a part only.",
    "nvidia.com/RESOURCE.slices.{gi,ci}": "Compute slices of a part's GPU instance, and its own.",
    "nvidia.com/RESOURCE.engines.{copy,decoder,encoder,jpeg,ofa}": "Engines of a part.",
}
_AMDS = {
    "amd.com/gpu.device-id[.VALUE]": "PCI's id of the model.",
    "amd.com/gpu.product-name[.VALUE]": "AMD's name.",
    "amd.com/gpu.family[.VALUE]": "Architecture.",
    "amd.com/gpu.vram[.VALUE]": "Memory (GiB).",
    "amd.com/gpu.cu-count[.VALUE]": "Compute units.",
    "amd.com/gpu.simd-count[.VALUE]": "SIMD units.",
    "amd.com/gpu.driver-version": "Of amdgpu.",
    "amd.com/gpu.driver-src-version": "Checksum of its source.",
    "amd.com/compute-memory-partition": "How the GPUs are partitioned now.",
    "amd.com/{compute,memory}-partitioning-supported": "Whether it can be changed.",
}
_OURS = {
    "gpuyard.io/gpu-model": "The catalogue's name of the model; `--gpus H100:2` goes by it.",
    "gpuyard.io/gpu-count.MODEL": "On nodes with several models: how many there are of each.",
    "gpuyard.io/nvlink-domain": "NVLink domain of several nodes, and the part of it.",
    "gpuyard.io/nvlink-island": "The most GPUs that NVLink or Infinity Fabric joins.",
    "gpuyard.io/pcie-island": "The most GPUs below one PCIe host bridge.",
    "gpuyard.io/numa-island": "The most GPUs at one NUMA node.",
    "gpuyard.io/simulated": "`true` where the GPUs are simulated; not there where they are real.",
}
_PAGE = """\
<!-- Written by tools/generate_labels_reference.py. -->
# Labels of nodes

What an agent's labeller says of its node's GPUs. It writes these labels and no others, on a cluster held to
it by an admission policy, and takes away what it wrote when the agent is uninstalled or the GPUs are gone.
Nodes with GPUs have `hardware-type=nvidia-gpu` besides. The health of GPUs isn't in labels: it is in
`gpuyard node`, events, the condition `GpuUnhealthy` and the [metrics](metrics.md).

What isn't known has no label. Characters that a label can't have become hyphens, and values end after 63.

## Nodes with different GPUs

Every label holds for all GPUs that it is about: a pod that a selector sends there gets what the label says,
whichever GPU it is given.

- Numbers are the least that any of them has: `nvidia.com/gpu.memory`, and the compute capability.
- Names that differ are left out: `nvidia.com/gpu.product`, `nvidia.com/gpu.family`. NVIDIA's GPU feature
  discovery describes one of the GPUs there.
- `gpuyard.io/gpu-model` is `mixed`, which no run asks for, and `gpuyard.io/gpu-count.MODEL` says how many
  there are of each model.
- Where only some are shared, `replicas` is the most that share one, `sharing-strategy` is the one that
  isolates least, and the product has `-SHARED`: any pod may get one of these.
- Of AMD's GPUs the value moves into the name, and the value says how many have it:
  `amd.com/gpu.vram.24G=1`, as AMD's node labeller does.

## Of NVIDIA's GPU feature discovery

{nvidias}

For each resource that is offered; RESOURCE is `gpu`, of MIG with the strategy `mixed` also `mig-1g.10gb`, and
`h100` where GPUs are offered by their model. A resource that sharing renames (`gpu.shared`) is described
under the name that it had, without `-SHARED`.

{resources}

## Of AMD's node labeller

{amds}

## Ours

{ours}

GPUs of [other vendors](../how-to/add-a-vendor.md) have four labels under the vendor's domain: `gpu.present`,
`gpu.count`, `gpu.product` and `gpu.memory` (MiB, the least).
"""


def _pattern(row: str) -> re.Pattern[str]:
    """Matches the labels that a row is about."""
    text = re.escape(row)
    text = re.sub(r"\\{(.+?)\\}", lambda found: f"({found[1].replace(',', '|')})", text)
    text = text.replace(r"\[\.VALUE\]", r"(\..+)?").replace("RESOURCE", "[a-z0-9.-]+").replace("MODEL", ".+")
    return re.compile(text)


def _recorded() -> dict[str, list[str]]:
    """Every label of the recorded nodes, with its values."""
    found: dict[str, list[str]] = {}
    for file in sorted(_NODES.glob("*.json")):
        for name, value in json.loads(file.read_text())["labels"].items():
            found.setdefault(name, []).append(value)
    return found


def _mistakes(recorded: Iterable[str]) -> list[str]:
    rows = [*_NVIDIAS, *_RESOURCES, *_AMDS, *_OURS]
    names = list(recorded)
    unused = [row for row in rows if not any(_pattern(row).fullmatch(name) for name in names)]
    counts = {name: sum(bool(_pattern(row).fullmatch(name)) for row in rows) for name in names}
    return [f"no recorded node has {row}" for row in unused] + [
        f"{count} rows are about {name}, not one" for name, count in counts.items() if count != 1
    ]


def _table(rows: dict[str, str], recorded: dict[str, list[str]]) -> str:
    lines = ["| label | such as | meaning |", "| --- | --- | --- |"]
    for row, meaning in rows.items():
        names = [name for name in recorded if _pattern(row).fullmatch(name)]
        values = dict.fromkeys(value for name in names for value in recorded[name])
        examples = ", ".join(f"`{value}`" for value in [*values][:_MOST_VALUES])
        lines.append(f"| `{row}` | {examples} | {meaning} |")
    return "\n".join(lines)


def main() -> int:
    """Whether the page is as it should be."""
    recorded = _recorded()
    mistakes = _mistakes(recorded)
    print("".join(f"{Path(__file__).name}: {mistake}\n" for mistake in mistakes), end="")
    groups = {"nvidias": _NVIDIAS, "resources": _RESOURCES, "amds": _AMDS, "ours": _OURS}
    page = _PAGE.format(**{group: _table(rows, recorded) for group, rows in groups.items()})
    if "--check" not in sys.argv:
        _FILE.write_text(page)
    elif not _FILE.exists() or _FILE.read_text() != page:
        print(f"{_FILE.name} isn't what {Path(__file__).name} writes: run tools/generate")
        return 1
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
