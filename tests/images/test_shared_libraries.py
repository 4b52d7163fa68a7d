"""A wheel that leaves libraries to the system, from the real index, and the packages that bring them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.images.conftest import Containers, Site


def test_opencv_is_refused_until_the_packages_that_the_build_names_are_there(
    site: Site, containers: Containers, app: Path
) -> None:
    (app / "requirements.txt").write_text("opencv-python==4.10.0.84\n")
    image = f"{site.registry}/me/opencv:v1"
    words = ("build", "--base", site.base, "--requirements", "requirements.txt", "-t", image, "-o", "json")
    refused = site.gpuyard(*words, cwd=app)
    assert refused.code == 1
    assert "opencv-python 4.10.0.84 can't be imported: it needs libGL.so.1" in refused.err
    assert site.tags("me/opencv") == []

    named = re.search(r"`system_packages: \[(.+)\]` brings what is missing", refused.err)
    assert named and "libgl1" in named[1].split(", ")
    packages = [word for name in named[1].split(", ") for word in ("--system-package", name)]
    built = site.ok(*words, *packages, cwd=app).json
    assert containers.python(built["reference"], "import cv2; print(cv2.__version__)") == "4.10.0\n"
