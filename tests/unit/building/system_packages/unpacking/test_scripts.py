from __future__ import annotations

import pytest

from gpuyard.building.system_packages.unpacking.scripts import script_effects

GENERATED = """\
#!/bin/sh
set -e
# Automatically added by dh_python3
if command -v py3compile >/dev/null 2>&1; then
	py3compile -p x
fi
# End automatically added section
# Automatically added by dh_installsystemd/13.11.4
deb-systemd-helper unmask x.service
# End automatically added section
exit 0
"""


@pytest.mark.parametrize(
    "script",
    [
        GENERATED,
        "#!/bin/sh\nldconfig\n",
        "#!/bin/sh\n# adduser is not called\nexit 0\n",
        "#!/bin/sh\nfc-cache -s\n",
    ],
)
def test_what_an_image_does_not_miss_is_not_told(script: str) -> None:
    assert script_effects("x", {"postinst": script}) == []


@pytest.mark.parametrize(
    ("script", "effect"),
    [
        ("addgroup --system --quiet \\\n  _ssh", "adds users or groups"),
        ("/usr/sbin/adduser --system x", "adds users or groups"),
        ("dpkg-divert --package x --rename /bin/y", "moves files of other packages aside"),
        ('"/usr/lib/x/glib-2.0/glib-compile-schemas" /usr/share', "compiles the settings' schemas"),
        ("libgvc6-config-update -c", "plugins"),
        ("update-alternatives --install /a b /c 20 $(slaves)", "makes links"),
    ],
)
def test_what_it_would_miss_is_told(script: str, effect: str) -> None:
    (found,) = script_effects("x", {"postinst": f"#!/bin/sh\nset -e\n{script}\n"})
    assert effect in found


def test_scripts_that_run_when_a_package_goes_do_not_count() -> None:
    assert script_effects("x", {"postrm": "#!/bin/sh\ndeluser x\nadduser x\n"}) == []
