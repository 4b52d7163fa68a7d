from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from gpuyard.compatibility.facts import load_facts, variant_cuda, variant_name
from gpuyard.compatibility.version import Architectures, Capability, CodeTarget, Version
from gpuyard.gpus import models
from gpuyard.gpus.catalogue import MODELS

FACTS = load_facts()
RAW = tomllib.loads(resources.files("gpuyard.compatibility").joinpath("facts.toml").read_text("utf-8"))
TABLES = {name: rows for name, rows in RAW.items() if name != "as_of"}
#: Month in which each table was last compared with its sources.
AS_OF = {**RAW["as_of"], "GPU models": models.AS_OF}
CHANGELOG = Path(__file__).parents[3] / "CHANGELOG.md"


def older_than_a_release(as_of: dict[str, str], changelog: str) -> set[str]:
    """The tables of which a release knows less than was to be known in its month."""
    released = max(re.findall(r"^## \[\d\S*\] - (\d{4}-\d\d)-\d\d$", changelog, re.MULTILINE), default="")
    return {table for table, month in as_of.items() if month < released}


def test_no_table_is_older_than_a_release() -> None:
    # docs/how-to/bring-the-tables-up-to-date.md says what to do.
    assert older_than_a_release(AS_OF, CHANGELOG.read_text("utf-8")) == set()


def test_every_table_says_when_it_was_compared_with_its_sources() -> None:
    assert set(RAW["as_of"]) == set(TABLES)
    assert all(re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", month) for month in AS_OF.values())


def test_a_table_older_than_a_release_is_named() -> None:
    changelog = "# Changelog\n\n## [Unreleased]\n\n## [0.3.0] - 2027-02-03\n\n## [0.2.0] - 2026-12-01\n"
    assert older_than_a_release({"gpu": "2027-01", "torch": "2027-02"}, changelog) == {"gpu"}
    assert older_than_a_release({"gpu": "2026-11"}, "## [Unreleased]\n") == set()


def test_every_row_says_where_it_comes_from() -> None:
    head = (
        resources.files("gpuyard.compatibility")
        .joinpath("facts.toml")
        .read_text("utf-8")
        .partition("\n\n")[0]
    )
    known = set(re.findall(r"^#   ([A-Z0-9]+) ", head, re.MULTILINE))
    for table, rows in TABLES.items():
        for row in rows:
            assert row["source"], (table, row)
            assert set(row["source"].split(",")) <= known, (table, row)


def test_the_tables_have_every_row() -> None:
    sizes = {name: len(rows) for name, rows in TABLES.items()}
    assert sizes["toolkit"] == 68
    assert sizes["torch"] == 18
    assert sizes["ngc"] == 45
    assert sizes["gpu"] == 20


def test_floors_and_branches_rise_with_cuda() -> None:
    drivers = [toolkit.driver for toolkit in FACTS.toolkits if toolkit.driver]
    # 10.0 is from before drivers and toolkits were numbered together: 410 before 418.
    assert drivers == sorted(drivers)
    assert [branch for branch, _ in FACTS.branches] == sorted(branch for branch, _ in FACTS.branches)
    for toolkit in FACTS.toolkits:
        if toolkit.driver:
            assert FACTS.driver_cuda(toolkit.driver) == toolkit.cuda.minor, toolkit


def test_the_two_tables_agree_on_a_container_s_driver() -> None:
    for container in FACTS.containers.values():
        floor = FACTS.full_floor(container.cuda)
        if container.driver and floor and len(container.driver.parts) > 1:
            assert container.driver.major == floor.major, container


def test_a_driver_is_found_by_patch_release_else_by_the_nearest_below() -> None:
    assert str(FACTS.full_floor(Version.parse("12.6.2"))) == "560.35.03"
    assert str(FACTS.full_floor(Version.parse("12.6"))) == "560.28.03"
    assert str(FACTS.full_floor(Version.parse("13.4.3"))) == "615.61"
    assert str(FACTS.full_floor(Version.parse("13.5"))) == "620"
    assert str(FACTS.full_floor(Version.parse("12.5.0.019"))) == "555.42.02"
    assert FACTS.full_floor(Version.parse("12.7")) is None
    assert FACTS.full_floor(Version.parse("14.0")) is None


@pytest.mark.parametrize(
    ("least", "gpu", "branch"),
    [
        ("450.80.02", "H100", 620),  # of those that will do, the one that is mended longest
        ("525.60.13", "V100", 580),
        ("525.60.13", "K80", None),  # 470 is no longer mended
        ("590.44.01", "H100", 620),
        ("590.44.01", "V100", None),
        ("615.61", "H100", 620),
        ("625.10", "H100", None),
    ],
)
def test_the_branch_to_install(least: str, gpu: str, branch: int | None) -> None:
    found = FACTS.supported_branch(Version.parse(least), FACTS.gpu_of_model(gpu))
    assert (found.driver if found else None) == branch


def test_the_catalogue_and_the_table_agree_on_capabilities() -> None:
    for model in MODELS:
        if model.compute_capability:
            capability = Capability(*model.compute_capability)
            row = FACTS.gpu(capability)
            assert row is not None, model.name
            assert row.capability == capability, model.name
            named = FACTS.gpu_of_model(model.name)
            assert named is None or named.capability == capability, model.name


@pytest.mark.parametrize(
    ("name", "capability"),
    [("K20", "3.5"), ("GTX 980", "5.2"), ("RTX 3090 Ti", "8.6"), ("Jetson Orin", "8.7"), ("M10", "5.0")],
)
def test_models_that_the_catalogue_lacks(name: str, capability: str) -> None:
    row = FACTS.gpu_of_model(name)
    assert row is not None
    assert str(row.capability) == capability


@pytest.mark.parametrize(
    ("name", "brand", "data_center"),
    [
        ("Tesla V100-SXM2-16GB", "tesla", True),
        ("NVIDIA-H100-80GB-HBM3", "nvidia", True),
        ("NVIDIA L40S", "nvidia", True),
        ("NVIDIA GH200 480GB", "nvidia", True),
        ("NVIDIA GB200", "nvidia", True),
        ("NVIDIA GeForce RTX 4090", "geforcertx", False),
        ("NVIDIA-GeForce-GTX-1080-Ti", "geforce", False),
        ("NVIDIA TITAN RTX", "titanrtx", False),
        ("Quadro RTX 8000", "quadrortx", None),
        ("NVIDIA RTX A6000", "nvidiartx", None),
        ("NVIDIA RTX A4000", "nvidiartx", False),
        ("NVIDIA T1000 8GB", "nvidiartx", False),
        ("Tesla T4", "tesla", True),
        ("NVIDIA Jetson AGX Thor", "nvidia", True),
        ("GRID A100D-40C", "grid", True),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "nvidia", True),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "nvidiartx", False),
        ("NVIDIA GB10", "nvidia", None),
    ],
)
def test_products(name: str, brand: str, data_center: bool | None) -> None:
    product = FACTS.product(name)
    assert product is not None
    assert (product.brand, product.data_center) == (brand, data_center)


@pytest.mark.parametrize(
    ("code", "device", "cuda", "runs"),
    [
        ("90", "9.0", "12.4", True), ("90", "10.0", "12.8", False), ("90", "12.0", "12.8", False),
        ("86", "8.9", "12.4", True), ("86", "8.0", "12.4", False), ("100", "10.3", "12.9", True),
        ("100", "12.0", "12.9", False), ("120", "12.1", "12.9", True), ("50", "5.2", "11.8", True),
        ("50", "5.3", "11.8", False), ("60", "6.1", "12.4", True), ("61", "6.2", "12.4", False),
        ("70", "7.2", "12.2", False), ("70", "7.5", "12.4", True), ("80", "8.7", "12.6", False),
        ("80", "8.7", "13.2", True), ("100", "10.1", "12.8", False), ("101", "11.0", "13.0", True),
        ("110", "10.1", "13.0", True), ("90a", "9.0", "12.4", True), ("100a", "10.3", "12.9", False),
        ("120f", "12.1", "12.9", True),
    ],
)  # fmt: skip
def test_the_cubin_rule(code: str, device: str, cuda: str, runs: bool) -> None:
    [target] = Architectures.parse([code]).cubins
    assert FACTS.runs_on(target, Capability.parse(device), Version.parse(cuda)) is runs
    assert str(target) == f"sm_{code}"
    assert isinstance(target, CodeTarget)


def test_what_is_new_by_november_2026() -> None:
    torch = FACTS.torch[Version.parse("2.15")]
    assert (str(torch.cuda), [str(cuda) for cuda in torch.variants]) == ("13.2", ["13.0", "13.2"])
    assert str(FACTS.driver_cuda(Version.parse("620.10.01"))) == "13.5"
    assert FACTS.containers[Version.parse("26.09")].torch == "2.14.0a0+b2c75dd062"
    assert all(Version.parse(f"26.{month:02}") in FACTS.containers for month in range(4, 11))


def test_variants() -> None:
    assert str(variant_cuda("cu126")) == "12.6"
    assert variant_cuda("cpu") is None
    assert variant_name(Version.parse("13.0.2")) == "cu130"


def test_no_version_is_in_the_code() -> None:
    folder = resources.files("gpuyard.compatibility")
    for path in folder.iterdir():
        if path.name.endswith(".py") and path.name != "diagnose.py":
            code = re.sub(r'""".*?"""|#.*', "", path.read_text("utf-8"), flags=re.DOTALL)
            code = code.replace("write for example 535.104.05", "")
            assert not re.findall(r"\b(?:[1-9]\d\.\d+|[4-6]\d\d(?:\.\d+)+)\b", code), path.name
