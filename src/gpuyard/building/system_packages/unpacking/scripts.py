"""What maintainer scripts would do, read and not run: what matters in an image, and what doesn't.

The scripts are shell programs that expect a running system. Most are boilerplate of debhelper's, or call a
program whose work is done here in another way. What is left is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gpuyard.building.system_packages.unpacking.alternatives import installed_by

#: Those that run when a package comes in.
_RUN = ("preinst", "postinst")
_GENERATED = re.compile(
    r"^# Automatically added by (?P<tool>[\w-]+).*?^# End automatically added section$",
    re.MULTILINE | re.DOTALL,
)
#: What debhelper's parts are for, where an image misses it; others serve upgrades, or a running system.
_GENERATED_EFFECTS = {
    "dh_installsysusers": "adds users",
    "dh_installudev": "",
}
#: Commands whose absence shows, with what they would have done. No service starts in any container.
_EFFECTS: tuple[tuple[str, str], ...] = (
    (r"(?:adduser|useradd|addgroup|groupadd)\b", "adds users or groups"),
    (r"(?:chown|chgrp|chmod|dpkg-statoverride)\b", "changes owners or modes of its files"),
    (r"dpkg-divert\b", "moves files of other packages aside"),
    (r"update-ca-certificates\b", "writes the list of certificate authorities"),
    (r"glib-compile-schemas\b", "compiles the settings' schemas that graphical programs read"),
    (r"gdk-pixbuf-query-loaders\b", "writes the list of image loaders for GTK"),
    (r"gtk-query-immodules\S*", "writes the list of GTK's input methods"),
    (r"update-mime-database\b", "compiles the table of file types"),
    (
        r"libgvc\d+-config-update\b",
        "writes the list of Graphviz's plugins, without which `dot` draws nothing",
    ),
    (r"locale-gen\b", "makes locales"),
    (r"pam-auth-update\b", "changes how users log in"),
    (r"update-initramfs\b|update-grub\b|depmod\b|dkms\b", "changes how the machine boots"),
    (r"(?:mysql_install_db|pg_createcluster|initdb)\b", "creates a database"),
    (r"dbus-uuidgen\b", "gives the machine an id"),
)
#: Scripts that were read by people, and whose words say more, or that an image doesn't miss.
_WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "dash": (),
    "dbus": (),
    "dbus-daemon": (),
    "dbus-system-bus-common": ("adds the user messagebus, for a bus that no container runs",),
    "dmsetup": (),
    "fontconfig-config": (),
    "libgstreamer1.0-0": (),
    "libibverbs1": (),
    "libpam-systemd": (),
    "openssh-client": ("makes ssh-agent setgid, so that the user's other programs can't look into it",),
    "procps": ("makes the name w of w.procps",),
    "sudo": (),
    "systemd": (),
    "systemd-sysv": (),
    "tzdata": (),
    "udev": (),
    "x11-common": (),
    "xz-utils": ("makes the old names lzma, unlzma and lzcat of xz",),
}
_CONTINUED = re.compile(r"\\\n[ \t]*")


def script_effects(package: str, extra: Mapping[str, str]) -> list[str]:
    """What a package's scripts would have done that an image may miss, in words that follow `it`.

    Args:
        package: its name.
        extra: its control files by name.
    """
    if package in _WELL_KNOWN:
        return list(_WELL_KNOWN[package])
    found: dict[str, None] = {}
    for name in _RUN:
        found |= dict.fromkeys(_effects(extra.get(name, "")))
    if not installed_by(extra.get("postinst", ""))[1]:
        found["makes links (update-alternatives) that only a shell can tell"] = None
    return [text for text in found if text]


def _own_lines(script: str) -> list[str]:
    """A script's commands without comments and generated parts, continued lines joined."""
    text = _CONTINUED.sub(" ", _GENERATED.sub("", script))
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _effects(script: str) -> Iterator[str]:
    for match in _GENERATED.finditer(script):
        yield _GENERATED_EFFECTS.get(match["tool"], "")
    text = "\n".join(_own_lines(script))
    for pattern, effect in _EFFECTS:
        if re.search(rf"(?<![\w./-])(?:\S*/)?{pattern}", text):
            yield effect
