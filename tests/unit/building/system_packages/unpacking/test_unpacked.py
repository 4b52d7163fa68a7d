from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.system_packages.unpacking.deb import Deb, ForwardTar
from gpuyard.building.system_packages.unpacking.unpacked import Unpacked
from gpuyard.images.contents.folders import Folders
from gpuyard.images.contents.system import BaseSystem


def test_no_entry_lies_outside_the_image() -> None:
    deb = Deb("Package: tree\n", {"../../../../../etc/x": "y"}, (), {}, {})
    unpacked = Unpacked(BaseSystem(), Folders(), {"tree": deb}, (), "amd64")
    with pytest.raises(errors.BuildError, match="which is no path"):
        list(unpacked.entries(lambda name: nullcontext(ForwardTar(Path(), name))))
