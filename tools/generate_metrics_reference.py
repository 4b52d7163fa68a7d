"""Writes docs/reference/metrics.md from the exporter's table of metrics; --check says what differs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from gpuyard.agent.metrics.families import FAMILIES, GPU_LABELS, MEASURED_LABELS, NODE_LABELS, Family

_FILE = Path(__file__).parents[1] / "docs/reference/metrics.md"
_HEAD = """\
<!-- Written by tools/generate_metrics_reference.py. -->
# Metrics

What an agent's exporter says of its node's GPUs, in Prometheus' text format: on a cluster at
`:9400/metrics` of every agent's pod ([how](../how-to/watch-gpus-with-prometheus.md)), on a yard at the URL
that `gpuyard status -o json` names as `metrics`, with the yard's token.

Metrics of dcgm-exporter have its names and units, so that dashboards and alerts for it go on working.
`DCGM_FI_PROF_*` are what NVML's GPM counts from one look of the exporter to the next, at most two seconds:
GPUs have it from Hopper on, and their MIG instances too. What a GPU's driver doesn't say isn't there, such as
the utilisation of a GPU that is split.

Every metric names its node: {node}. Metrics of a GPU name it: {gpu}; `pci_bus_id` as DCGM writes it.

## Whose a value is

What is measured has these labels besides, where there is something to say: {measured}. Each value of a GPU
is there once. `scope` says whose it is:

| `scope` | value of |
| --- | --- |
| `pod` | the GPU or MIG instance (`GPU_I_PROFILE`, `GPU_I_ID`) that the pod has for itself |
| `gpu` | a GPU that nobody has, that several may share, or that is split: no pod's own |
| `instance` | a MIG instance that no pod has for itself |

Who holds a share of a GPU is in `gpuyard_allocation`, which can be joined by `Hostname` and `UUID`. The
memory that its processes have there is in `gpuyard_pod_gpu_memory_bytes`, where the agent sees the node's
processes: on a yard, and on a cluster with `gpuyard install --driver-access privileged`. No
metric says which run a pod is of: the kubelet doesn't know it, and a pod's name doesn't tell it for certain.
`gpuyard top` and `gpuyard show` have it from the pods' label `gpuyard.io/run`; for Prometheus
[kube-state-metrics](https://github.com/kubernetes/kube-state-metrics) has that label, with
`--metric-labels-allowlist=pods=[gpuyard.io/run]`. The energy of each run is then

```promql
sum by (namespace, label_gpuyard_io_run) (
  gpuyard_pod_energy_joules_total
  * on (namespace, pod) group_left (label_gpuyard_io_run) kube_pod_labels{{label_gpuyard_io_run!=""}}
)
```
"""


def _table(families: Iterable[Family]) -> str:
    rows = ["| metric | kind | labels besides | meaning |", "| --- | --- | --- | --- |"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(rows)


def _page() -> str:
    def names(labels: Iterable[str]) -> str:
        return ", ".join(f"`{label}`" for label in labels)

    head = _HEAD.format(node=names(NODE_LABELS), gpu=names(GPU_LABELS), measured=names(MEASURED_LABELS))
    dcgm = [family for family in FAMILIES if family.name.startswith("DCGM_")]
    ours = [family for family in FAMILIES if family not in dcgm]
    return f"{head}\n## Of dcgm-exporter\n\n{_table(dcgm)}\n\n## Ours\n\n{_table(ours)}\n"


def main() -> int:
    """Whether the page is as it should be."""
    page = _page()
    if "--check" not in sys.argv:
        _FILE.write_text(page)
    elif not _FILE.exists() or _FILE.read_text() != page:
        print(f"{_FILE.name} isn't what {Path(__file__).name} writes: run tools/generate")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
