"""Every reason in its words: `golden/verdicts.txt` has what each image is told on each node.

To write the file again after a change that was meant:
`python -m tests.unit.compatibility.test_judge_messages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.judge import judge
from gpuyard.compatibility.need import Traits, need_of
from gpuyard.compatibility.offer import Injection, Offer, stated_offer
from gpuyard.compatibility.verdict import Rule
from gpuyard.compatibility.version import Capability, Version
from tests.unit.compatibility.images import debian, ngc, nvidia_cuda, pip

_FACTS = load_facts()
_GOLDEN = Path(__file__).parent / "golden/verdicts.txt"
_V = Version.parse


def stated(gpu: str, driver: str, **changes: Any) -> Offer:
    return replace(stated_offer(gpu, driver, _FACTS), **changes)


def own(cuda: str, **env: str) -> Traits:
    """A team's own image, with a CUDA of which nothing more is known."""
    return Traits("registry/own:1", env={"CUDA_VERSION": cuda, **env})


CASES: list[tuple[Traits, Offer]] = [
    (nvidia_cuda("12.8.1"), stated("H100", "570.124.06")),
    (nvidia_cuda("12.8.1"), stated("GB200", "570.124.06")),
    (replace(nvidia_cuda("12.8.1"), machine=""), stated("GB200", "570.124.06")),
    (nvidia_cuda("12.8.1"), stated("H100", "570.124.06", machine="amd64")),
    (Traits("debian:12"), stated("H100", "550.54.15")),
    (pip("2.5.1+cpu"), stated("H100", "550.54.15")),
    (debian(), stated("H100", "550.54.15")),
    (debian(), stated("H100", "550.54.15", simulated=True)),
    (nvidia_cuda("12.4.1"), stated("V100", "590.44.01")),
    (nvidia_cuda("12.4.1"), stated("B200", "535.104.05")),
    (nvidia_cuda("12.4.1"), stated("H100", "")),
    (own("14.0"), stated("H100", "")),
    (nvidia_cuda("10.2"), stated("V100", "")),
    (own("14.0"), Offer("n", driver=_V("390.10"), capability=Capability(6, 0))),
    (own("12.7.0"), stated("H100", "535.104.05")),
    # No driver helps where the GPU is too old for the CUDA.
    (nvidia_cuda("12.4.1"), stated("K80", "450.80.02")),
    (nvidia_cuda("12.4.1"), stated("K80", "", cuda=_V("11.4"))),
    (pip("2.14.0", "13.0.96"), stated("V100", "535.104.05")),
    (pip("2.13.0", "13.0.96"), stated("H100", "535.104.05")),
    (pip("2.13.0", "13.0.96"), stated("H100", "", cuda=_V("12.2"))),
    (pip("2.8.0", "12.8.90"), stated("H100", "", cuda=_V("12.8"))),
    (own("12.4"), Offer("n", driver=_V("390.10"), capability=Capability(6, 0))),
    (nvidia_cuda("10.2"), stated("V100", "418.39")),
    (pip("2.8.0", "12.8.90"), stated("A100", "525.60.13")),
    (pip("2.8.0", "12.8.90"), stated("A100", "", cuda=_V("12.0"))),
    (nvidia_cuda("11.0.3"), stated("T4", "450.36.06")),
    (ngc("25.10"), stated("H100", "535.104.05")),
    (ngc("25.10"), stated("RTX 4090", "535.104.05")),
    (ngc("25.10"), stated("H100", "545.23.06")),
    (nvidia_cuda("13.0.0"), stated("H100", "570.86.10")),
    (pip("2.11.0", "13.0.96", base=nvidia_cuda("12.8.1")), stated("H100", "535.104.05")),
    (own("14.0", NV_CUDA_COMPAT_PACKAGE="cuda-compat-14-0"), stated("H100", "535.104.05")),
    (own("14.0", NV_CUDA_COMPAT_PACKAGE="cuda-compat-13-0"), stated("H100", "535.104.05")),
    (nvidia_cuda("12.8.1"), Offer("n", driver=_V("580.65.06"), cuda=_V("13.0"))),
    (pip("2.7.1", "12.6.77"), stated("B200", "575.51.03")),
    (ngc("24.06", TORCH_CUDA_ARCH_LIST="8.0 9.0"), stated("B200", "580.65.06")),
    # Its PTX is compiled by the driver library that the image brings.
    (ngc("26.01", TORCH_CUDA_ARCH_LIST="8.0+PTX"), stated("H100", "535.104.05", capability=Capability(9, 0))),
    (ngc("26.02"), stated("P100", "580.95.05")),
    (ngc("26.04", TORCH_CUDA_ARCH_LIST="9.0"), stated("B200", "595.58.03")),
    (ngc("26.04", TORCH_CUDA_ARCH_LIST="compute_100"), stated("B200", "595.58.03")),
    (nvidia_cuda("13.0.0"), stated("B200", "615.61", capability=Capability(13, 0))),
    (pip("2.14.0+cu132"), stated("B200", "595.45.04", capability=Capability(13, 0))),
    (pip("2.14.0+cu132"), stated("B200", "580.95.05", capability=Capability(13, 0))),
    (pip("2.14.0+cu132"), stated("B200", "", capability=Capability(13, 0))),
    (nvidia_cuda("13.0.0"), stated("V100", "580.95.05")),
    (nvidia_cuda("12.4.1"), stated("B200", "580.65.06")),
    (nvidia_cuda("12.4.1"), stated("H100", "580.65.06", capability=Capability(14, 0))),
    (nvidia_cuda("12.8.1"), stated("RTX 4090", "535.104.05", injection=Injection.LEGACY)),
    (nvidia_cuda("12.8.1"), stated("RTX 4090", "535.104.05", injection=Injection.CDI)),
    (own("12.8"), stated("RTX 4090", "535.104.05")),
]


def told() -> Iterator[str]:
    """What each image is told of each node."""
    for image, offer in CASES:
        verdict = judge(need_of(image, _FACTS), offer, _FACTS)
        yield f"{image.reference} on {offer.name}: {verdict.outcome}"
        for reason in verdict.reasons:
            yield f"  {reason.rule}: {reason.outcome}"
            yield f"    {reason.message}"
            yield from (f"    {name}: {text}" for name, text in _numbers(reason.to_json()) if text)


def _numbers(reason: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, reason[name]) for name in ("needs", "has", "remedy")]


def test_every_reason_has_the_words_that_were_read_over() -> None:
    assert list(told()) == _GOLDEN.read_text().splitlines()


def test_every_rule_is_among_them() -> None:
    named = {line.strip().partition(":")[0] for line in _GOLDEN.read_text().splitlines()}
    assert {rule.value for rule in Rule} <= named


if __name__ == "__main__":
    _GOLDEN.write_text("".join(f"{line}\n" for line in told()))
