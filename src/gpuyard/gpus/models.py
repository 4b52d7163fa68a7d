"""The table behind the catalogue: one row a GPU model that people run.

Memory is what NVML reports with a current driver and the board's default ECC setting. Sources: NVIDIA's
and AMD's data sheets for memory, links and form; compute capabilities from NVIDIA's list
(https://developer.nvidia.com/cuda-gpus). Only links that every board of the model has are counted: a card
that can get an optional NVLink bridge has none here.
"""

from __future__ import annotations

from typing import Final, TypeAlias

#: name, NVML product, memory MiB, compute capability, family, NVLinks, form, further spellings.
Row: TypeAlias = tuple[str, str, int, tuple[int, int] | None, str, int | None, str, tuple[str, ...]]

# A spelling may stand in several rows: "A100" is any A100, and the first row is the one meant when
# only one can be.
ROWS: Final[tuple[Row, ...]] = (
    # Data centre, Kepler to Turing.
    ("K80", "Tesla K80", 11441, (3, 7), "kepler", None, "PCIe", ()),
    ("M60", "Tesla M60", 7680, (5, 2), "maxwell", None, "PCIe", ()),
    ("P4", "Tesla P4", 7680, (6, 1), "pascal", None, "PCIe", ()),
    ("P40", "Tesla P40", 23040, (6, 1), "pascal", None, "PCIe", ()),
    ("P100", "Tesla P100-SXM2-16GB", 16384, (6, 0), "pascal", 4, "SXM2", ("P100-16GB", "P100-SXM2")),
    ("P100-PCIe", "Tesla P100-PCIE-16GB", 16384, (6, 0), "pascal", None, "PCIe", ("P100", "P100-16GB")),
    ("V100", "Tesla V100-SXM2-16GB", 16384, (7, 0), "volta", 6, "SXM2",
        ("V100-16GB", "V100-SXM2", "V100-SXM")),
    ("V100-32GB", "Tesla V100-SXM2-32GB", 32768, (7, 0), "volta", 6, "SXM2",
        ("V100", "V100-SXM3-32GB", "V100-SXM2", "V100-SXM3", "V100-SXM2-32GB-LS", "V100-SXM")),
    ("V100-PCIe", "Tesla V100-PCIE-16GB", 16384, (7, 0), "volta", None, "PCIe", ("V100", "V100-16GB")),
    ("V100-PCIe-32GB", "Tesla V100-PCIE-32GB", 32768, (7, 0), "volta", None, "PCIe",
        ("V100", "V100-32GB", "V100-PCIe")),
    ("V100S", "Tesla V100S-PCIE-32GB", 32768, (7, 0), "volta", None, "PCIe", ("V100S-32GB",)),
    ("TITAN-V", "NVIDIA TITAN V", 12288, (7, 0), "volta", None, "PCIe", ()),
    ("T4", "Tesla T4", 15360, (7, 5), "turing", None, "PCIe", ("T4-16GB",)),
    ("T4G", "NVIDIA T4G", 15360, (7, 5), "turing", None, "PCIe", ()),
    # Data centre, Ampere.
    ("A100-40GB", "NVIDIA A100-SXM4-40GB", 40960, (8, 0), "ampere", 12, "SXM4",
        ("A100", "A100-SXM4", "A100-SXM", "A100-SXM-40GB")),
    ("A100-80GB", "NVIDIA A100-SXM4-80GB", 81920, (8, 0), "ampere", 12, "SXM4",
        ("A100", "A100-SXM4", "A100-SXM", "A100-SXM-80GB")),
    ("A100-40GB-PCIe", "NVIDIA A100-PCIE-40GB", 40960, (8, 0), "ampere", None, "PCIe",
        ("A100", "A100-40GB", "A100-PCIe")),
    ("A100-80GB-PCIe", "NVIDIA A100 80GB PCIe", 81920, (8, 0), "ampere", None, "PCIe",
        ("A100", "A100-80GB", "A100-PCIe", "A100-PCIE-80GB")),
    ("A800", "NVIDIA A800-SXM4-80GB", 81920, (8, 0), "ampere", 8, "SXM4", ("A800-80GB", "A800-SXM")),
    ("A800-PCIe", "NVIDIA A800 80GB PCIe", 81920, (8, 0), "ampere", None, "PCIe", ("A800", "A800-80GB")),
    ("A30", "NVIDIA A30", 24576, (8, 0), "ampere", None, "PCIe", ("A30-24GB",)),
    ("A40", "NVIDIA A40", 46068, (8, 6), "ampere", None, "PCIe", ("A40-48GB", "A40-PCIe")),
    ("A10", "NVIDIA A10", 23028, (8, 6), "ampere", None, "PCIe", ("A10-24GB", "A10-PCIe")),
    ("A10G", "NVIDIA A10G", 23028, (8, 6), "ampere", None, "PCIe", ("A10G-24GB",)),
    ("A16", "NVIDIA A16", 15356, (8, 6), "ampere", None, "PCIe", ()),
    ("A2", "NVIDIA A2", 15356, (8, 6), "ampere", None, "PCIe", ()),
    # Data centre, Ada.
    ("L4", "NVIDIA L4", 23034, (8, 9), "ada-lovelace", None, "PCIe", ("L4-24GB",)),
    ("L20", "NVIDIA L20", 46068, (8, 9), "ada-lovelace", None, "PCIe", ()),
    ("L40", "NVIDIA L40", 46068, (8, 9), "ada-lovelace", None, "PCIe", ("L40-48GB",)),
    ("L40S", "NVIDIA L40S", 46068, (8, 9), "ada-lovelace", None, "PCIe", ("L40S-48GB",)),
    # Data centre, Hopper.
    ("H100", "NVIDIA H100 80GB HBM3", 81559, (9, 0), "hopper", 18, "SXM5",
        ("H100-SXM5", "H100-SXM", "H100-80GB", "H100-SXM5-80GB", "H100-80GB-SXM5", "H100-SXM-80GB",
         "H100-mega-80GB", "H100-HBM3")),
    ("H100-PCIe", "NVIDIA H100 PCIe", 81559, (9, 0), "hopper", None, "PCIe",
        ("H100", "H100-80GB", "H100-PCIe-80GB", "H100-80GB-PCIe")),
    ("H100-NVL", "NVIDIA H100 NVL", 95830, (9, 0), "hopper", None, "PCIe",
        ("H100", "H100-94GB", "H100NVL", "H100-NVL-94GB")),
    ("H800", "NVIDIA H800", 81559, (9, 0), "hopper", 8, "SXM5", ("H800-SXM5", "H800-80GB")),
    ("H20", "NVIDIA H20", 97871, (9, 0), "hopper", 18, "SXM5", ("H20-96GB", "H20-SXM5")),
    ("H200", "NVIDIA H200", 143771, (9, 0), "hopper", 18, "SXM5",
        ("H200-SXM5", "H200-SXM", "H200-141GB", "H200-SXM-141GB", "H200-141GB-HBM3e")),
    ("H200-NVL", "NVIDIA H200 NVL", 143771, (9, 0), "hopper", None, "PCIe", ("H200", "H200-141GB")),
    ("GH200", "NVIDIA GH200 480GB", 97871, (9, 0), "hopper", 18, "superchip", ("GH200-96GB",)),
    ("GH200-144GB", "NVIDIA GH200 144G HBM3e", 147456, (9, 0), "hopper", 18, "superchip", ("GH200",)),
    # Data centre, Blackwell.
    ("B100", "NVIDIA B100", 183359, (10, 0), "blackwell", 18, "SXM6", ("B100-SXM6",)),
    ("B200", "NVIDIA B200", 183359, (10, 0), "blackwell", 18, "SXM6",
        ("B200-SXM6", "B200-SXM", "B200-180GB", "B200-192GB")),
    ("GB200", "NVIDIA GB200", 189471, (10, 0), "blackwell", 18, "superchip", ("GB200-NVL72", "GB200-192GB")),
    ("B300", "NVIDIA B300 SXM6 AC", 275040, (10, 3), "blackwell", 18, "SXM6",
        ("B300-SXM6", "B300-SXM", "B300-288GB")),
    ("GB300", "NVIDIA GB300", 284208, (10, 3), "blackwell", 18, "superchip", ("GB300-NVL72", "GB300-288GB")),
    ("GB10", "NVIDIA GB10", 124610, (12, 1), "blackwell", None, "SoC", ("DGX-Spark",)),
    # Workstation.
    ("RTX-4000", "Quadro RTX 4000", 8192, (7, 5), "turing", None, "PCIe", ("Quadro-RTX-4000",)),
    ("RTX-5000", "Quadro RTX 5000", 16384, (7, 5), "turing", None, "PCIe", ("Quadro-RTX-5000",)),
    ("RTX-6000", "Quadro RTX 6000", 24576, (7, 5), "turing", None, "PCIe", ("Quadro-RTX-6000",)),
    ("RTX-8000", "Quadro RTX 8000", 49152, (7, 5), "turing", None, "PCIe", ("Quadro-RTX-8000",)),
    ("TITAN-RTX", "NVIDIA TITAN RTX", 24576, (7, 5), "turing", None, "PCIe", ()),
    ("RTX-A2000", "NVIDIA RTX A2000 12GB", 12282, (8, 6), "ampere", None, "PCIe", ("A2000",)),
    ("RTX-A4000", "NVIDIA RTX A4000", 16376, (8, 6), "ampere", None, "PCIe", ("A4000",)),
    ("RTX-A4500", "NVIDIA RTX A4500", 20470, (8, 6), "ampere", None, "PCIe", ("A4500",)),
    ("RTX-A5000", "NVIDIA RTX A5000", 24564, (8, 6), "ampere", None, "PCIe", ("A5000",)),
    ("RTX-A6000", "NVIDIA RTX A6000", 49140, (8, 6), "ampere", None, "PCIe", ("A6000", "A6000-48GB")),
    ("RTX-2000-Ada", "NVIDIA RTX 2000 Ada Generation", 16380, (8, 9), "ada-lovelace", None, "PCIe", ()),
    ("RTX-4000-Ada", "NVIDIA RTX 4000 Ada Generation", 20475, (8, 9), "ada-lovelace", None, "PCIe",
        ("RTX4000-Ada", "RTX 4000 SFF Ada Generation")),
    ("RTX-5000-Ada", "NVIDIA RTX 5000 Ada Generation", 32760, (8, 9), "ada-lovelace", None, "PCIe", ()),
    ("RTX-6000-Ada", "NVIDIA RTX 6000 Ada Generation", 49140, (8, 9), "ada-lovelace", None, "PCIe",
        ("6000-Ada", "A6000-Ada")),
    ("RTX-PRO-4000", "NVIDIA RTX PRO 4000 Blackwell", 24467, (12, 0), "blackwell", None, "PCIe", ()),
    ("RTX-PRO-4500", "NVIDIA RTX PRO 4500 Blackwell", 32623, (12, 0), "blackwell", None, "PCIe", ()),
    ("RTX-PRO-5000", "NVIDIA RTX PRO 5000 Blackwell", 48935, (12, 0), "blackwell", None, "PCIe", ()),
    ("RTX-PRO-6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, (12, 0), "blackwell",
        None, "PCIe",
        ("RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
         "RTX PRO 6000 Blackwell", "RTX-PRO-6000-SE", "RTX-PRO-6000-WS", "PRO-6000", "RTX6000-PRO")),
    # GeForce. The bare number is how people say them.
    ("GTX-1080", "NVIDIA GeForce GTX 1080", 8192, (6, 1), "pascal", None, "PCIe", ("1080",)),
    ("GTX-1080-Ti", "NVIDIA GeForce GTX 1080 Ti", 11264, (6, 1), "pascal", None, "PCIe", ("1080-Ti",)),
    ("RTX-2070", "NVIDIA GeForce RTX 2070", 8192, (7, 5), "turing", None, "PCIe", ("2070",)),
    ("RTX-2080", "NVIDIA GeForce RTX 2080", 8192, (7, 5), "turing", None, "PCIe", ("2080",)),
    ("RTX-2080-Ti", "NVIDIA GeForce RTX 2080 Ti", 11264, (7, 5), "turing", None, "PCIe", ("2080-Ti",)),
    ("RTX-3060", "NVIDIA GeForce RTX 3060", 12288, (8, 6), "ampere", None, "PCIe", ("3060",)),
    ("RTX-3060-Ti", "NVIDIA GeForce RTX 3060 Ti", 8192, (8, 6), "ampere", None, "PCIe", ("3060-Ti",)),
    ("RTX-3070", "NVIDIA GeForce RTX 3070", 8192, (8, 6), "ampere", None, "PCIe", ("3070",)),
    ("RTX-3070-Ti", "NVIDIA GeForce RTX 3070 Ti", 8192, (8, 6), "ampere", None, "PCIe", ("3070-Ti",)),
    ("RTX-3080", "NVIDIA GeForce RTX 3080", 10240, (8, 6), "ampere", None, "PCIe", ("3080",)),
    ("RTX-3080-Ti", "NVIDIA GeForce RTX 3080 Ti", 12288, (8, 6), "ampere", None, "PCIe", ("3080-Ti",)),
    ("RTX-3090", "NVIDIA GeForce RTX 3090", 24576, (8, 6), "ampere", None, "PCIe", ("3090",)),
    ("RTX-3090-Ti", "NVIDIA GeForce RTX 3090 Ti", 24564, (8, 6), "ampere", None, "PCIe", ("3090-Ti",)),
    ("RTX-4060", "NVIDIA GeForce RTX 4060", 8188, (8, 9), "ada-lovelace", None, "PCIe", ("4060",)),
    ("RTX-4060-Ti", "NVIDIA GeForce RTX 4060 Ti", 16380, (8, 9), "ada-lovelace", None, "PCIe", ("4060-Ti",)),
    ("RTX-4070", "NVIDIA GeForce RTX 4070", 12282, (8, 9), "ada-lovelace", None, "PCIe", ("4070",)),
    ("RTX-4070-SUPER", "NVIDIA GeForce RTX 4070 SUPER", 12282, (8, 9), "ada-lovelace", None, "PCIe", ()),
    ("RTX-4070-Ti", "NVIDIA GeForce RTX 4070 Ti", 12282, (8, 9), "ada-lovelace", None, "PCIe", ("4070-Ti",)),
    ("RTX-4080", "NVIDIA GeForce RTX 4080", 16376, (8, 9), "ada-lovelace", None, "PCIe", ("4080",)),
    ("RTX-4080-SUPER", "NVIDIA GeForce RTX 4080 SUPER", 16376, (8, 9), "ada-lovelace", None, "PCIe", ()),
    ("RTX-4090", "NVIDIA GeForce RTX 4090", 24564, (8, 9), "ada-lovelace", None, "PCIe", ("4090",)),
    ("RTX-5070", "NVIDIA GeForce RTX 5070", 12227, (12, 0), "blackwell", None, "PCIe", ("5070",)),
    ("RTX-5070-Ti", "NVIDIA GeForce RTX 5070 Ti", 16303, (12, 0), "blackwell", None, "PCIe", ("5070-Ti",)),
    ("RTX-5080", "NVIDIA GeForce RTX 5080", 16303, (12, 0), "blackwell", None, "PCIe", ("5080",)),
    ("RTX-5090", "NVIDIA GeForce RTX 5090", 32607, (12, 0), "blackwell", None, "PCIe", ("5090",)),
    # AMD Instinct: no CUDA, so no compute capability, and Infinity Fabric instead of NVLink.
    ("MI210", "AMD Instinct MI210", 65520, None, "cdna2", None, "PCIe", ()),
    ("MI250X", "AMD Instinct MI250X", 65520, None, "cdna2", None, "OAM", ("MI250X-OAM",)),
    ("MI300X", "AMD Instinct MI300X", 196592, None, "cdna3", None, "OAM", ("MI300X-OAM", "MI300X-192GB")),
    ("MI325X", "AMD Instinct MI325X", 262128, None, "cdna3", None, "OAM", ("MI325X-OAM",)),
    ("MI355X", "AMD Instinct MI355X", 294896, None, "cdna4", None, "OAM", ("MI355X-OAM",)),
)  # fmt: skip
