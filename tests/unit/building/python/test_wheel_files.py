from __future__ import annotations

import base64
import csv
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.environment import PREFIX, Environment
from gpuyard.building.python.wheel_files import InstalledWheel
from gpuyard.building.python.zip_file import ZipFile
from gpuyard.images.contents.contents import Interpreter
from gpuyard.images.layers import Entry
from tests.unit.images.conftest import MakeWheel

ENVIRONMENT = Environment(Interpreter("/usr/bin/python3.11", 11))
SITE = ENVIRONMENT.site_packages.strip("/")
BIN = f"{PREFIX.strip('/')}/bin"


def installed(wheel: Path) -> dict[str, tuple[Entry, bytes]]:
    with ZipFile(wheel) as opened:
        entries = InstalledWheel(opened, None, ENVIRONMENT).entries()
        return {e.path: (e, b"".join(e.content()) if e.content else b"") for e in entries}


def test_data_schemes_go_where_an_installer_puts_them(make_wheel: MakeWheel) -> None:
    data = "demo-1.0.data"
    files = installed(
        make_wheel(
            files={
                "demo.py": "1",
                f"{data}/purelib/pure.py": "2",
                f"{data}/platlib/plat.so": "3",
                f"{data}/scripts/tool": "#!python\nprint(1)\n",
                f"{data}/scripts/sh": "#!/bin/sh\n",
                f"{data}/headers/demo.h": "4",
                f"{data}/data/share/demo.txt": "5",
            }
        )
    )
    assert files[f"{SITE}/demo.py"][1] == b"1"
    assert files[f"{SITE}/pure.py"][1] == b"2"
    assert files[f"{SITE}/plat.so"][1] == b"3"
    assert files[f"{BIN}/tool"][1] == f"#!{PREFIX}/bin/python\nprint(1)\n".encode()
    assert files[f"{BIN}/sh"][1] == b"#!/bin/sh\n"
    assert {files[f"{BIN}/{name}"][0].mode for name in ("tool", "sh")} == {0o755}
    assert files[f"{PREFIX.strip('/')}/include/site/python3.11/demo/demo.h"][1] == b"4"
    assert files[f"{PREFIX.strip('/')}/share/demo.txt"][1] == b"5"


def test_record_lists_every_file_with_its_hash(make_wheel: MakeWheel) -> None:
    wheel = make_wheel(
        files={"demo/__init__.py": "x", "demo-1.0.data/scripts/tool": "#!python\n"},
        entry_points="[console_scripts]\nhello = demo.cli:main\n",
    )
    files = installed(wheel)
    record = files[f"{SITE}/demo-1.0.dist-info/RECORD"][1].decode()
    rows = {row[0]: row[1:] for row in csv.reader(record.splitlines())}
    import posixpath

    assert set(rows) == {posixpath.relpath(path, SITE) for path in files}
    for path, (_, content) in files.items():
        if path.endswith("RECORD"):
            continue
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        assert rows[posixpath.relpath(path, SITE)] == [f"sha256={digest}", str(len(content))], path
    assert files[f"{SITE}/demo-1.0.dist-info/INSTALLER"][1] == b"gpuyard\n"


@pytest.mark.parametrize(
    ("value", "first", "call"),
    [("demo:main", "main", "main()"), ("demo.cli:App.run [extra]", "App", "App.run()")],
)
def test_entry_points_become_scripts(make_wheel: MakeWheel, value: str, first: str, call: str) -> None:
    files = installed(make_wheel(entry_points=f"[console_scripts]\nHello.x = {value}\n[other]\na = b\n"))
    entry, script = files[f"{BIN}/Hello.x"]
    assert entry.mode == 0o755
    compile(script, "script", "exec")
    assert f"import {first}\n".encode() in script and call.encode() in script


def test_executables_stay_executable(make_wheel: MakeWheel) -> None:
    files = installed(
        make_wheel(files={"demo/bin/ptxas": "elf", "demo/a.py": ""}, executable=("demo/bin/ptxas",))
    )
    assert files[f"{SITE}/demo/bin/ptxas"][0].mode == 0o755
    assert files[f"{SITE}/demo/a.py"][0].mode == 0o644


@pytest.mark.parametrize("name", ["../evil.py", "demo-1.0.data/data/../../../evil", "demo-1.0.data/who/x"])
def test_files_outside_the_environment_are_refused(make_wheel: MakeWheel, name: str) -> None:
    with pytest.raises(errors.BuildError, match="can't be installed"):
        installed(make_wheel(files={name: "x"}))


def test_an_entry_point_that_is_code_is_refused(make_wheel: MakeWheel) -> None:
    with pytest.raises(errors.BuildError, match="entry point"):
        installed(make_wheel(entry_points="[console_scripts]\nx = os:system('id')\n"))
    with pytest.raises(errors.BuildError, match="entry point"):
        installed(make_wheel(entry_points="[console_scripts]\n../x = demo:main\n"))
    with pytest.raises(errors.BuildError, match="entry point"):
        installed(make_wheel(entry_points="[console_scripts]\n.. = demo:main\n"))


def test_what_is_no_wheel_is_refused(tmp_path: Path, make_wheel: MakeWheel) -> None:
    file = tmp_path / "x.whl"
    file.write_bytes(b"no zip")
    with pytest.raises(errors.ImageDamaged, match="not a readable zip"):
        ZipFile(file)


def test_a_damaged_member_is_noticed(make_wheel: MakeWheel) -> None:
    wheel = make_wheel(files={"demo.py": "x = 1\n" * 500})
    content = bytearray(wheel.read_bytes())
    content[60] ^= 0xFF
    wheel.write_bytes(content)
    with pytest.raises(errors.ImageDamaged, match="damaged at"):
        installed(wheel)


def test_a_record_that_cannot_be_read_is_said_of_the_wheel(tmp_path: Path) -> None:
    file = tmp_path / "0123.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("demo-1.0.dist-info/WHEEL", "")
        wheel.writestr("demo-1.0.dist-info/RECORD", "a" * 200_000 + ",,\n")
    with (
        ZipFile(file, "demo-1.0-py3-none-any.whl") as opened,
        pytest.raises(errors.BuildError, match=r"demo-1\.0-py3-none-any\.whl: RECORD can't be read"),
    ):
        InstalledWheel(opened, None, ENVIRONMENT).entries()


@pytest.mark.parametrize(("at", "value"), [(6, 99), (9, 8)], ids=["version", "name"])
def test_a_zip_of_another_time_is_not_readable(make_wheel: MakeWheel, at: int, value: int) -> None:
    wheel = make_wheel()
    content = bytearray(wheel.read_bytes())
    entry = content.find(b"PK\x01\x02")
    content[entry + at] = value
    content[entry + 46] = 0xFF
    wheel.write_bytes(content)
    with pytest.raises(errors.ImageDamaged, match="not a readable zip"):
        ZipFile(wheel)


@pytest.mark.parametrize(
    ("field", "value"),
    [("header_offset", -5), ("header_offset", 1 << 40), ("header_offset", 1 << 70)],
    ids=["before the file", "beyond its end", "beyond all files"],
)
def test_a_directory_that_says_nonsense_is_a_damaged_wheel(
    make_wheel: MakeWheel, field: str, value: int
) -> None:
    with ZipFile(make_wheel(), "demo.whl") as opened:
        member = opened.members[0]
        setattr(member, field, value)
        with pytest.raises(errors.ImageDamaged, match=r"demo\.whl is damaged at demo/__init__\.py"):
            opened.read(member)


def test_a_disk_that_can_t_be_read_names_the_wheel(make_wheel: MakeWheel) -> None:
    with ZipFile(make_wheel(), "demo.whl") as opened:
        pass
    # Its descriptor is closed, so that each read of it fails.
    with pytest.raises(errors.ImageDamaged, match=r"demo\.whl is damaged at demo/__init__\.py"):
        opened.read(opened.members[0])


def test_a_wheel_that_is_gone_is_named(make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel()

    def refused(path: Path, flags: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(errors.ImageDamaged, match=r"demo\.whl is not a readable zip"):
        ZipFile(wheel, "demo.whl")


def test_a_file_that_is_a_folder_too_is_refused(make_wheel: MakeWheel) -> None:
    wheel = make_wheel(files={"a": "file", "a/b": "in it"})
    with pytest.raises(errors.BuildError, match=r"demo-1\.0-py3-none-any\.whl has .*/a as a file"):
        installed(wheel)


@pytest.mark.parametrize("file", ["other-1.0-py3-none-any.whl", "demo-1.1-py3-none-any.whl"])
def test_a_wheel_under_anothers_name_is_refused(make_wheel: MakeWheel, file: str) -> None:
    with (
        ZipFile(make_wheel(files={"demo.py": "1"}), file) as opened,
        pytest.raises(errors.BuildError, match=r"holds demo 1\.0"),
    ):
        InstalledWheel(opened, None, ENVIRONMENT).entries()
