from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gpuyard.gpus.catalogue import MODELS
from gpuyard.images.cuda.facts import load_facts
from gpuyard.images.cuda.need import Image, need_of
from gpuyard.images.cuda.offer import Offer, stated_offer
from gpuyard.images.cuda.require import Term, parse_requirement
from gpuyard.images.cuda.verdict import Rule, judge
from gpuyard.images.cuda.version import Architectures, Capability, Target, Version
from tests.unit.images.cuda.images import ngc, nvidia_cuda, pip, pytorch

FACTS = load_facts()
NAMES = [model.name for model in MODELS if model.compute_capability]
DRIVERS = sorted(
    {t.driver for t in FACTS.toolkits if t.driver} | {Version((branch, 10)) for branch, _ in FACTS.branches}
)
RELEASES = list(FACTS.torch.values())
CUDAS = [str(t.cuda) for t in FACTS.toolkits if t.driver]

images = st.one_of(
    st.builds(
        lambda release, cuda: pip(f"{release.version}+cu{cuda.minor.parts[0]}{cuda.minor.parts[1]}"),
        st.sampled_from(RELEASES),
        st.sampled_from([cuda for release in RELEASES for cuda in release.variants]),
    ),
    st.builds(lambda r: pytorch(str(r.version), str(r.variants[0])), st.sampled_from(RELEASES)),
    st.sampled_from(CUDAS).map(nvidia_cuda),
    st.sampled_from([str(tag) for tag in FACTS.containers]).map(ngc),
)


def offer_of(gpu: str, driver: Version) -> Offer:
    return replace(stated_offer(gpu, str(driver), FACTS), machine="")


@given(images, st.sampled_from(NAMES), st.sampled_from(DRIVERS), st.sampled_from(DRIVERS))
def test_a_newer_driver_never_turns_fits_into_fails(
    image: Image, gpu: str, one: Version, other: Version
) -> None:
    """But for generations that it dropped, and branches that forward compatibility leaves out."""
    older, newer = sorted((one, other))
    need = replace(need_of(image, FACTS), requirements=())
    before, after = judge(need, offer_of(gpu, older), FACTS), judge(need, offer_of(gpu, newer), FACTS)
    if before.fails or any(reason.rule is Rule.FORWARD for reason in before.reasons):
        return
    # What the compat package compiled PTX for may be lost with a branch that it doesn't work on.
    assert {r.rule for r in after.reasons if r.outcome.name == "FAILS"} <= {Rule.GPU_DROPPED, Rule.PTX}
    if need.compat is None:
        assert not after.fails or after.reasons[0].rule is Rule.GPU_DROPPED


capabilities = st.builds(Capability, st.integers(3, 13), st.integers(0, 9))
architectures = st.builds(
    Architectures,
    st.frozensets(st.builds(Target, capabilities, st.sampled_from(["", "a", "f"])), max_size=6),
    st.frozensets(capabilities, max_size=3),
)


@given(images, architectures, architectures, st.sampled_from(NAMES), st.sampled_from(DRIVERS))
def test_more_architectures_never_turn_fits_into_fails(
    image: Image, some: Architectures, more: Architectures, gpu: str, driver: Version
) -> None:
    need, offer = need_of(image, FACTS), offer_of(gpu, driver)
    both = Architectures(some.cubins | more.cubins, some.ptx | more.ptx)
    if not judge(replace(need, architectures=some), offer, FACTS).fails:
        assert not judge(replace(need, architectures=both), offer, FACTS).fails


@given(architectures)
def test_architectures_read_what_they_write(value: Architectures) -> None:
    assert Architectures.parse(str(value).split()) == value


versions = st.lists(st.integers(0, 700), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
terms = st.one_of(
    st.builds(
        Term,
        st.sampled_from(["cuda", "driver", "arch"]),
        st.sampled_from(["!=", "<=", ">=", "=", "<", ">"]),
        versions,
    ),
    st.builds(Term, st.just("brand"), st.sampled_from(["=", "!="]), st.sampled_from(["tesla", "geforce"])),
)
requirements = st.lists(st.lists(terms, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(tuple)


@given(requirements)
def test_requirements_read_what_they_write(alternatives: tuple[tuple[Term, ...], ...]) -> None:
    text = " ".join(",".join(map(str, terms)) for terms in alternatives)
    requirement = parse_requirement("NVIDIA_REQUIRE_CUDA", text)
    assert requirement.alternatives == alternatives
    assert str(requirement) == text


properties = st.fixed_dictionaries(
    {"cuda": versions, "driver": versions, "arch": versions, "brand": st.sampled_from(["tesla", "geforce"])}
)


@given(requirements, st.lists(terms, min_size=1, max_size=3).map(tuple), properties)
def test_one_more_alternative_never_refuses_and_one_more_term_never_admits(
    alternatives: tuple[tuple[Term, ...], ...], extra: tuple[Term, ...], node: dict[str, str]
) -> None:
    text = " ".join(",".join(map(str, terms)) for terms in alternatives)
    holds = parse_requirement("X", text).holds(node)
    assert parse_requirement("X", f"{text} {','.join(map(str, extra))}").holds(node) >= holds  # type: ignore[operator]
    narrower = " ".join(f"{','.join(map(str, terms))},{extra[0]}" for terms in alternatives)
    assert parse_requirement("X", narrower).holds(node) <= holds  # type: ignore[operator]


@given(st.sampled_from(CUDAS), st.sampled_from(DRIVERS), st.sampled_from(DRIVERS))
def test_a_least_version_is_monotone(cuda: str, one: Version, other: Version) -> None:
    requirement = parse_requirement("X", f"cuda>={cuda} driver>={one}")
    older, newer = sorted((one, other))
    before, after = (
        requirement.holds({"cuda": str(FACTS.driver_cuda(d)), "driver": str(d)}) for d in (older, newer)
    )
    assert after >= before  # type: ignore[operator]
