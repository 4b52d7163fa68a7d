"""What each GPU model of the catalogue can be split into (pure).

Names, engines and counts are those of NVIDIA's MIG user guide, "Supported MIG Profiles" (driver 590).
Memory, multiprocessors and placements are what `nvidia-smi mig -lgip` and `-lgipp` say on real GPUs: A100,
H100 and B200 as p4d, p5 and p6-b200 were captured for Karpenter's AWS provider; A30, H100 PCIe, H100
NVL, GH200, H200 and RTX PRO 6000 from listings that their users published. Of GB200, B300, GB300, H20, GH200
144 GB and RTX PRO 5000 no listing is public: theirs are the nearest model's in proportion, as are figures of
A100-80GB; the placements of RTX PRO 5000 and 6000 are taken to be those of A30.

Where a driver can be asked, its answer goes before these; newer ones name some profiles anew (`7g.189gb`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gpuyard.gpus.mig_profiles import MigEngines, MigGeometry, MigProfile

_MEMORY_STEP_MIB = 128
#: Copy, decoder, encoder, JPEG, OFA of 1g, 1g with media engines, 1g with more memory, 2g, 3g, 4g and 7g.
_AMPERE = ((1, 0), (1, 1, 0, 1, 1), (1, 1), (2, 1), (3, 2), (4, 2), (7, 5, 0, 1, 1))
_HOPPER = (
    (1, 1, 0, 1), (1, 1, 0, 1, 1), (1, 1, 0, 1), (2, 2, 0, 2), (3, 3, 0, 3), (4, 4, 0, 4), (8, 7, 0, 7, 1),
)  # fmt: skip
_BLACKWELL = tuple((2 * copy, *others) for copy, *others in _HOPPER)


def _sevenths(
    names: str, memory_mib: Iterable[int], multiprocessors: Iterable[int], engines: Iterable[Iterable[int]]
) -> MigGeometry:
    """A GPU with seven compute slices and eight memory slices.

    Args:
        names: of 1g, 1g with twice the memory, 2g, 3g, 4g and 7g.
        memory_mib, multiprocessors: of these, in that order.
        engines: as above.
    """
    one, wide, two, three, four, seven = zip(names.split(), memory_mib, multiprocessors, strict=True)
    has = [MigEngines(*each) for each in engines]
    anywhere = (0, 1, 2, 3, 4, 5, 6)
    return MigGeometry((
        MigProfile(*seven, has[6], 7, 8, (0,), 1),
        MigProfile(*four, has[5], 4, 4, (0,), 1),
        MigProfile(*three, has[4], 3, 4, (0, 4), 2),
        MigProfile(*two, has[3], 2, 2, (0, 2, 4), 3),
        MigProfile(*wide, has[2], 1, 2, (0, 2, 4, 6), 4),
        MigProfile(f"{one[0]}+me", *one[1:], has[1], 1, 1, anywhere, 1),
        MigProfile(*one, has[0], 1, 1, anywhere, 7),
    ))  # fmt: skip


def _quarters(*rows: tuple[str, int, int, int, tuple[int, ...]]) -> MigGeometry:
    """A GPU with four compute slices and four memory slices.

    Args:
        rows: name, memory in MiB, multiprocessors, how many there can be, and engines; the largest first.
    """
    starts = {4: (0,), 2: (0, 2), 1: (0, 1, 2, 3)}
    return MigGeometry(
        tuple(
            MigProfile(name, memory, processors, MigEngines(*engines), size, size, starts[size], most)
            for name, memory, processors, most, engines in rows
            for size in (int(name[0]),)
        )
    )


def _scaled(memory_mib: Iterable[int], share: float) -> tuple[int, ...]:
    return tuple(int(each * share) // _MEMORY_STEP_MIB * _MEMORY_STEP_MIB for each in memory_mib)


_A100_80 = _sevenths(
    "1g.10gb 1g.20gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb",
    (9728, 19968, 19968, 40192, 40192, 80640), (14, 14, 28, 42, 56, 98), _AMPERE,
)  # fmt: skip
_A30 = _quarters(
    ("4g.24gb", 24000, 56, 1, (4, 4, 0, 1, 1)),
    ("2g.12gb+me", 11968, 28, 1, (2, 2, 0, 1, 1)),
    ("2g.12gb", 11968, 28, 2, (2, 2)),
    ("1g.6gb+me", 5952, 14, 1, (1, 1, 0, 1, 1)),
    ("1g.6gb", 5952, 14, 4, (1, 1)),
)
_H100_SMS = (16, 26, 32, 60, 64, 132)
_H20_SMS = (8, 14, 18, 34, 36, 78)
_H100 = _sevenths(
    "1g.10gb 1g.20gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb",
    (9984, 20096, 20096, 40448, 40448, 81152), _H100_SMS, _HOPPER,
)  # fmt: skip
_96_NAMES = "1g.12gb 1g.24gb 2g.24gb 3g.48gb 4g.48gb 7g.96gb"
_96_MEMORY = (11264, 23552, 23552, 47616, 47616, 95232)
_141_NAMES = "1g.18gb 1g.35gb 2g.35gb 3g.71gb 4g.71gb 7g.141gb"
_141_MEMORY = (16384, 33280, 33280, 71424, 71424, 143360)
_H200 = _sevenths(_141_NAMES, _141_MEMORY, _H100_SMS, _HOPPER)
_B200_MEMORY = (20992, 45312, 45312, 91136, 91136, 182784)
_B200_SMS = (18, 30, 36, 70, 72, 148)
_GB200_SMS = (18, 30, 36, 70, 72, 152)
_RTX_PRO_6000 = _quarters(
    ("4g.96gb", 97280, 188, 1, (4, 4, 4, 4, 1)),
    ("4g.96gb+gfx", 97280, 188, 1, (4, 4, 4, 4, 1)),
    ("2g.48gb+me.all", 48512, 94, 1, (2, 4, 4, 4, 1)),
    ("2g.48gb+gfx", 48512, 94, 2, (2, 2, 2, 2)),
    ("2g.48gb", 48512, 94, 2, (2, 2, 2, 2)),
    ("2g.48gb-me", 48512, 94, 2, (2,)),
    ("1g.24gb+me.all", 24192, 46, 1, (1, 4, 4, 4, 1)),
    ("1g.24gb+me", 24192, 46, 1, (1, 1, 1, 1, 1)),
    ("1g.24gb+gfx", 24192, 46, 4, (1, 1, 1, 1)),
    ("1g.24gb", 24192, 46, 4, (1, 1, 1, 1)),
    ("1g.24gb-me", 24192, 46, 4, (1,)),
)

#: By the catalogue's name.
_GEOMETRIES: Final[Mapping[str, MigGeometry]] = {
    "A30": _A30,
    "A30X": _A30,
    **dict.fromkeys(
        ("A100-40GB", "A100-40GB-PCIe"),
        _sevenths(
            "1g.5gb 1g.10gb 2g.10gb 3g.20gb 4g.20gb 7g.40gb",
            (4864, 9984, 9984, 20096, 20096, 40320), (14, 14, 28, 42, 56, 98), _AMPERE,
        ),
    ),
    **dict.fromkeys(("A100-80GB", "A100-80GB-PCIe", "A100X", "A800", "A800-PCIe"), _A100_80),
    "H100": _H100,
    "H800": _H100,
    "H100-PCIe": _sevenths(
        "1g.10gb 1g.20gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb",
        (9984, 20096, 20096, 40448, 40448, 81152), (14, 14, 30, 46, 62, 114), _HOPPER,
    ),
    "H100-NVL": _sevenths(
        "1g.12gb 1g.24gb 2g.24gb 3g.47gb 4g.47gb 7g.94gb",
        (11008, 22144, 22144, 47488, 47488, 95360), _H100_SMS, _HOPPER,
    ),
    "GH200": _sevenths(_96_NAMES, _96_MEMORY, _H100_SMS, _HOPPER),
    "GH200-144GB": _sevenths(
        "1g.18gb 1g.36gb 2g.36gb 3g.72gb 4g.72gb 7g.144gb",
        _scaled(_141_MEMORY, 144 / 141), _H100_SMS, _HOPPER,
    ),
    "H20": _sevenths(_96_NAMES, _96_MEMORY, _H20_SMS, _HOPPER),
    "H20-141GB": _sevenths(_141_NAMES, _141_MEMORY, _H20_SMS, _HOPPER),
    "H200": _H200,
    "H200-NVL": _H200,
    "B200": _sevenths(
        "1g.23gb 1g.45gb 2g.45gb 3g.90gb 4g.90gb 7g.180gb", _B200_MEMORY, _B200_SMS, _BLACKWELL
    ),
    "GB200": _sevenths(
        "1g.23gb 1g.47gb 2g.47gb 3g.93gb 4g.93gb 7g.186gb",
        _scaled(_B200_MEMORY, 186 / 180), _GB200_SMS, _BLACKWELL,
    ),
    "B300": _sevenths(
        "1g.34gb 1g.67gb 2g.67gb 3g.135gb 4g.135gb 7g.269gb",
        _scaled(_B200_MEMORY, 269 / 180), _B200_SMS, _BLACKWELL,
    ),
    "GB300": _sevenths(
        "1g.35gb 1g.70gb 2g.70gb 3g.139gb 4g.139gb 7g.278gb",
        _scaled(_B200_MEMORY, 278 / 180), _GB200_SMS, _BLACKWELL,
    ),
    "RTX-PRO-5000": _quarters(
        ("4g.48gb", 48640, 110, 1, (4, 3, 3, 1, 1)),
        ("4g.48gb+gfx", 48640, 110, 1, (4, 3, 3, 1, 1)),
        ("2g.24gb-me", 24192, 54, 1, (2,)),
        ("1g.12gb+me", 12032, 26, 1, (1, 1, 1, 1, 1)),
        ("1g.12gb+gfx", 12032, 26, 1, (1, 1, 1, 1)),
        ("1g.12gb", 12032, 26, 1, (1, 1, 1, 1)),
        ("1g.12gb-me", 12032, 26, 3, (1,)),
    ),
    **dict.fromkeys(("RTX-PRO-6000", "RTX-PRO-6000-WS", "RTX-PRO-6000-Max-Q"), _RTX_PRO_6000),
}  # fmt: skip


def mig_geometry(model: str) -> MigGeometry | None:
    """What a GPU can be split into, by its name in the catalogue; None when it can't be, or isn't known."""
    return _GEOMETRIES.get(model)


def mig_models() -> tuple[str, ...]:
    """The catalogue's names of those that can be split."""
    return tuple(_GEOMETRIES)
