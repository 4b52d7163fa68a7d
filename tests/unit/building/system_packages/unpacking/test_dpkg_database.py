from __future__ import annotations

from gpuyard.building.system_packages.unpacking.deb import Deb
from gpuyard.building.system_packages.unpacking.dpkg_database import database_files


def test_triggers_have_names_that_stay_in_dpkgs_folder() -> None:
    triggers = (
        "interest-noawait /usr/share/mime\ninterest ldconfig\ninterest ../../../etc/x\ninterest a/../../b\n"
    )
    deb = Deb("Package: tree\n", {"triggers": triggers}, (), {}, {})
    found = {path: content for path, content, _ in database_files({}, {"tree": deb}, (), {}, "amd64")}
    assert {path: text for path, text in found.items() if "triggers/" in path} == {
        "var/lib/dpkg/triggers/File": b"/usr/share/mime tree/noawait\n",
        "var/lib/dpkg/triggers/ldconfig": b"tree\n",
    }
