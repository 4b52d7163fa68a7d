from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import assume, event, given
from hypothesis import strategies as st

from gpuyard.compatibility.facts import load_facts
from gpuyard.compatibility.fleet import FleetReport, exclusion, judge_all
from gpuyard.compatibility.judge import judge
from gpuyard.compatibility.need import Traits, need_of
from gpuyard.compatibility.nvidia_require import Term, parse_requirement
from gpuyard.compatibility.offer import Offer, stated_offer
from gpuyard.compatibility.verdict import Fit, Rule, Verdict, VerdictReason
from gpuyard.compatibility.version import Architectures, Capability, CodeTarget, Version
from gpuyard.gpus.catalogue import MODELS
from gpuyard.images.contents.torch import LABELS, Installed, Torch
from tests.unit.compatibility.images import ngc, nvidia_cuda, pip, pytorch

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
    image: Traits, gpu: str, one: Version, other: Version
) -> None:
    """But for generations that it dropped. Forward compatibility leaves out branches, newer ones too."""
    older, newer = sorted((one, other))
    need = replace(need_of(image, FACTS), requirements=(), compat=None)
    before, after = judge(need, offer_of(gpu, older), FACTS), judge(need, offer_of(gpu, newer), FACTS)
    assume(not before.fails)
    event(f"{before.outcome}, then {after.outcome}")
    assert not after.fails or after.reasons[0].rule is Rule.GPU_DROPPED


@given(
    st.sampled_from(CUDAS),
    st.sampled_from(CUDAS),
    st.booleans(),
    st.sampled_from(NAMES),
    st.sampled_from(DRIVERS),
)
def test_an_older_cuda_runs_wherever_a_newer_one_does(
    one: str, other: str, compat: bool, gpu: str, driver: Version
) -> None:
    older, newer = sorted((one, other), key=Version.parse)
    offer = offer_of(gpu, driver)
    need = replace(need_of(nvidia_cuda(newer), FACTS), requirements=())
    if not compat:
        need = replace(need, compat=None)
    before = judge(need, offer, FACTS)
    after = judge(replace(need, cuda=Version.parse(older)), offer, FACTS)
    assume(not before.fails)
    event(f"{before.outcome}, then {after.outcome}")
    assert not after.fails


@given(images, st.sampled_from(NAMES), st.sampled_from(DRIVERS), st.sets(st.sampled_from(
    ["driver", "cuda", "capability", "machine", "data_center", "brand"]
)))  # fmt: skip
def test_knowing_less_of_a_node_never_fails_what_fits(
    image: Traits, gpu: str, driver: Version, forgotten: set[str]
) -> None:
    """A fail is something that is known. Forward compatibility goes by the driver, which it has to know."""
    need, offer = replace(need_of(image, FACTS), compat=None), offer_of(gpu, driver)
    nothing: dict[str, Any] = {name: "" if name in ("machine", "brand") else None for name in forgotten}
    less = replace(offer, **nothing)
    whole, part = judge(need, offer, FACTS), judge(need, less, FACTS)
    event(f"{whole.outcome}, then {part.outcome}")
    assert whole.fails or not part.fails
    if not part.fails and forgotten >= {"driver", "cuda"} and need.cuda:
        assert part.outcome is Fit.UNKNOWN


@given(images, st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(DRIVERS)), min_size=1, max_size=4))
def test_what_is_suggested_runs_where_it_is_said_to(image: Traits, nodes: list[tuple[str, Version]]) -> None:
    offers = [replace(offer_of(gpu, driver), name=f"n{n}") for n, (gpu, driver) in enumerate(nodes)]
    report = judge_all([need_of(image, FACTS)], offers, FACTS)
    found = report.suggestion
    event("nothing to suggest" if found is None else found.name.partition(" ")[0])
    if found is None:
        return
    assert set(found.nodes) <= report.failing
    kind, _, version = found.name.replace(":", " ").partition(" ")
    version = version.partition("-")[0]
    makers: dict[str, Callable[[str], Traits]] = {
        "torch": pip, "nvidia/cuda": nvidia_cuda, "nvcr.io/nvidia/pytorch": ngc,
    }  # fmt: skip
    need = replace(need_of(makers[kind](version), FACTS), requirements=())
    for offer in offers:
        if offer.name in found.nodes:
            assert not judge(need, offer, FACTS).fails


names = st.sampled_from(["a", "b", "c", "d"])
label_sets = st.fixed_dictionaries(
    {},
    optional={
        "kubernetes.io/arch": st.sampled_from(["amd64", "arm64"]),
        "nvidia.com/cuda.driver-version.full": st.sampled_from(["470.82.01", "580.95.05"]),
        "nvidia.com/gpu.product": st.sampled_from(["Tesla-T4", "NVIDIA-H100-PCIe"]),
        "gpuyard.io/gpu-injection": st.sampled_from(["cdi", "legacy"]),
        "kubernetes.io/hostname": st.just("HOST"),
    },
)


@given(st.dictionaries(names, st.tuples(st.booleans(), label_sets), min_size=1))
def test_pods_are_kept_off_exactly_the_nodes_that_fail(nodes: dict[str, tuple[bool, dict[str, str]]]) -> None:
    labels = {
        name: {key: name if value == "HOST" else value for key, value in found.items()}
        | {"kubernetes.io/hostname": name}
        for name, (_, found) in nodes.items()
    }
    reason = VerdictReason(Rule.DRIVER_TOO_OLD, Fit.FAILS, "")
    verdicts = tuple(Verdict(Offer(name), (reason,) if bad else ()) for name, (bad, _) in nodes.items())
    report = FleetReport(need_of(Traits("x"), FACTS), verdicts, None)
    clause = exclusion(report, labels)
    event("none" if clause is None else clause["key"])
    expression = clause or {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": []}
    kept_off = {name for name in nodes if labels[name].get(expression["key"]) in expression["values"]}
    assert kept_off == {name for name, (bad, _) in nodes.items() if bad}


folders = st.sampled_from(["", "/usr/lib/python3/dist-packages", "/opt/conda/lib/python3.11/site-packages"])
torches = st.builds(
    Torch,
    st.sampled_from(["2.5.1", "2.5.1+cpu", "2.5.1+cu124", "1.13.0a0", "2.4.0a0+f70bd71a48.nv24.6"]),
    folders,
    st.sampled_from(["", "none", "12.4"]),
)
installations = st.builds(Installed, st.none() | torches, st.sampled_from(["", "12.4.127", "13.0.96"]))


@given(installations, installations)
def test_labels_tell_all_and_leave_nothing_of_the_base_s(own: Installed, base: Installed) -> None:
    kept = {name: value for name, value in base.labels().items() if name not in LABELS}
    assert Installed.of_labels(kept | own.labels()) == own


@given(installations)
def test_a_torch_without_cuda_needs_none(installed: Installed) -> None:
    need = need_of(Traits("x", "amd64", {"CUDA_VERSION": "12.4.1"}, installed=installed), FACTS)
    assert need.cpu_only == bool(installed.torch and installed.torch.without_cuda)
    assert need.cpu_only or need.cuda is not None
    assert not (need.cpu_only and need.cuda)


real = st.sampled_from([gpu.capability for gpu in FACTS.gpus])
capabilities = real | st.builds(Capability, st.integers(3, 13), st.integers(0, 9))
architectures = st.builds(
    Architectures,
    st.frozensets(st.builds(CodeTarget, capabilities, st.sampled_from(["", "a", "f"])), max_size=6),
    st.frozensets(capabilities, max_size=3),
)


@given(images, architectures, architectures, st.booleans(), st.sampled_from(NAMES), st.sampled_from(DRIVERS))
def test_more_architectures_never_turn_fits_into_fails(
    image: Traits, some: Architectures, more: Architectures, own: bool, gpu: str, driver: Version
) -> None:
    offer = replace(offer_of(gpu, driver), observed=True)
    if own and offer.capability:
        some = replace(some, cubins=some.cubins | {CodeTarget(offer.capability)})
    both = Architectures(some.cubins | more.cubins, some.ptx | more.ptx)
    need = replace(need_of(image, FACTS), least_capability=None)
    before = judge(replace(need, architectures=some), offer, FACTS)
    after = judge(replace(need, architectures=both), offer, FACTS)
    event(f"{before.outcome}, then {after.outcome}")
    assert before.fails or not after.fails


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
