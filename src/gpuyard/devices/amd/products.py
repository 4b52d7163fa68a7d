"""What AMD calls its GPUs: boards of Instinct say it themselves, others only by the ids of PCI.

Source: libdrm data/amdgpu.ids.
"""

from __future__ import annotations

#: PCI's device id, and its revision where several boards have one device id.
_PRODUCTS = {
    "738c": "AMD Instinct MI100",
    "7408": "AMD Instinct MI250X",
    "740c": "AMD Instinct MI250X",
    "740f": "AMD Instinct MI210",
    "74a0": "AMD Instinct MI300A",
    "74a1": "AMD Instinct MI300X",
    "74a2": "AMD Instinct MI308X",
    "74a5": "AMD Instinct MI325X",
    "74a8": "AMD Instinct MI308X HF",
    "74a9": "AMD Instinct MI300X HF",
    "74b5": "AMD Instinct MI300X VF",
    "74bd": "AMD Instinct MI300X HF",
    "75a0": "AMD Instinct MI350X",
    "75a3": "AMD Instinct MI355X",
    "75b0": "AMD Instinct MI350X VF",
    "75b3": "AMD Instinct MI355X VF",
    "73a3": "AMD Radeon Pro W6800",
    "73a5": "AMD Radeon RX 6950 XT",
    "73af": "AMD Radeon RX 6900 XT",
    "73bf:c0": "AMD Radeon RX 6900 XT",
    "73bf:c1": "AMD Radeon RX 6800 XT",
    "73bf:c3": "AMD Radeon RX 6800",
    "7448": "AMD Radeon Pro W7900",
    "7449": "AMD Radeon Pro W7800 48GB",
    "744a": "AMD Radeon Pro W7900 Dual Slot",
    "744b": "AMD Radeon Pro W7900D",
    "744c:c8": "AMD Radeon RX 7900 XTX",
    "744c:cc": "AMD Radeon RX 7900 XT",
    "744c:ce": "AMD Radeon RX 7900 GRE",
    "745e": "AMD Radeon Pro W7800",
    "7470": "AMD Radeon Pro W7700",
    "747e:c8": "AMD Radeon RX 7800 XT",
    "747e:ff": "AMD Radeon RX 7700 XT",
    "747e:db": "AMD Radeon RX 7700",
    "7480:c0": "AMD Radeon RX 7600 XT",
    "7480:cf": "AMD Radeon RX 7600",
    "7550:c0": "AMD Radeon RX 9070 XT",
    "7550:c2": "AMD Radeon RX 9070 GRE",
    "7550:c3": "AMD Radeon RX 9070",
    "7551:c0": "AMD Radeon AI PRO R9700",
    "7551:c8": "AMD Radeon AI PRO R9600D",
    "7590:c0": "AMD Radeon RX 9060 XT",
    "7590:c7": "AMD Radeon RX 9060",
    "1586": "AMD Radeon 8060S Graphics",
}
#: Graphics of a processor that ROCm has no libraries for; it has them for those of Strix and Strix Halo.
_INTEGRATED = frozenset({
    "gfx902", "gfx909", "gfx90c", "gfx1033", "gfx1035", "gfx1036", "gfx1037", "gfx1103"
})  # fmt: skip
#: The kernel's families by the start of a target's name, the longest first (AMDGPU_FAMILY_… of
#: include/uapi/drm/amdgpu_drm.h), as AMD's node labeller writes them.
_FAMILIES = {
    "gfx1033": "VGH", "gfx1035": "YC", "gfx1036": "GC_10_3_6", "gfx1037": "GC_10_3_7", "gfx1103": "GC_11_0_1",
    "gfx902": "RV", "gfx909": "RV", "gfx90c": "RV",
    "gfx115": "GC_11_5_0", "gfx110": "GC_11_0_0", "gfx12": "GC_12_0_0", "gfx10": "NV", "gfx9": "AI",
    "gfx8": "VI", "gfx7": "CI",
}  # fmt: skip


def find_family(target: str) -> str:
    """The kernel's name of the family of a target: `gfx942` is of `AI`; empty when it isn't known."""
    return next((family for start, family in _FAMILIES.items() if target.startswith(start)), "")


def find_product(device_id: str, revision: str) -> str:
    """AMD's name of a GPU, by four and two hexadecimal digits; `AMD GPU 13c0` for one that isn't listed."""
    listed = _PRODUCTS.get(f"{device_id}:{revision}") or _PRODUCTS.get(device_id)
    return listed or f"AMD GPU {device_id}".strip()


def find_device_id(product: str) -> str:
    """PCI's device id of a product, the first of several; empty for one that isn't listed."""
    return next((key.partition(":")[0] for key, name in _PRODUCTS.items() if name == product), "")


def is_integrated(target: str) -> bool:
    """Whether a target is a processor's own graphics, which ROCm doesn't run on."""
    return target in _INTEGRATED
