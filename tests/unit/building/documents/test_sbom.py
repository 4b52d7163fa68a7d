from __future__ import annotations

import json
from pathlib import Path

from gpuyard.building.documents.sbom import cyclonedx
from gpuyard.building.lock import PlatformLock
from gpuyard.building.project.metadata import ProjectMetadata
from gpuyard.building.project.project import Project
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.system_packages.locked import SystemPackage
from gpuyard.images.oci import Digest

BASE = Digest("sha256:" + "0" * 64)


def test_all_that_is_in_an_image_is_listed_with_its_address_in_the_language_of_scanners() -> None:
    lock = PlatformLock(
        BASE,
        wheels=(Wheel("demo-1.0+cu1-py3-none-any.whl", "1" * 64),),
        system_packages=(SystemPackage("g++", "4:12.2.0-3", "amd64", 1, "2" * 64, "pool/g.deb"),),
        distribution="debian",
    )
    found = json.loads(cyclonedx("debian:12", BASE, {"demo": "0.9", "yaml": "6.0"}, lock))["components"]
    assert [each.get("purl") for each in found] == [
        None,
        "pkg:pypi/yaml@6.0",
        "pkg:pypi/demo@1.0%2Bcu1",
        "pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64",
    ]
    assert [each["hashes"][0]["content"][0] for each in found if "hashes" in each] == ["0", "1", "2"]


def test_projects_of_ones_own_are_listed_without_an_address_of_the_index() -> None:
    wheel = Wheel("built-2.0-py3-none-any.whl", "3" * 64)
    projects = [
        Project(Path("/app"), ProjectMetadata("My.App", "1.0", "", (), {}, {}), ()),
        Project(Path("/built"), ProjectMetadata("built", "2.0", "", (), {}, {}), (), wheel),
    ]
    packages = {"my-app": "0.1"}
    found = json.loads(cyclonedx("debian:12", BASE, packages, PlatformLock(BASE), projects))["components"]
    assert [(each["name"], each["version"], "purl" in each) for each in found[1:]] == [
        ("my-app", "1.0", False),
        ("built", "2.0", False),
    ]
    assert found[2]["hashes"] == [{"alg": "SHA-256", "content": wheel.sha256}]
