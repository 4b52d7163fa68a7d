from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.process.sandbox import (
    Isolation,
    bubblewrap_args,
    check_word_count,
    find_isolation,
    named_in_tmp,
)
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import ContainerSpec, HostDevice


def _spec(*argv: str, working_dir: str = "/", **env: str) -> ContainerSpec:
    return ContainerSpec("c", argv or ("true",), env, working_dir)


async def test_without_bubblewrap(tmp_path: Path) -> None:
    isolation = await find_isolation(str(tmp_path))
    assert isolation.level == "none"
    assert "not installed" in isolation.warning
    assert "/dev/shm" in isolation.warning


async def test_bubblewrap_that_does_not_work_here(tmp_path: Path) -> None:
    (tmp_path / "bwrap").write_text(
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n"
    )
    (tmp_path / "bwrap").chmod(0o755)
    isolation = await find_isolation(str(tmp_path))
    assert isolation.level == "none"
    assert "setting up uid map: Permission denied" in isolation.warning


async def test_a_mount_that_vanishes_meanwhile_takes_no_isolation_away(tmp_path: Path) -> None:
    said = "Can't bind mount /oldroot/ on /newroot/: Unable to apply mount flags: remount"
    (tmp_path / "bwrap").write_text(
        f"""#!/bin/sh
        mkdir {tmp_path}/once 2>/dev/null || exit 0
        echo "bwrap: {said} \\"/newroot/gone\\": No such file or directory" >&2
        exit 1
        """
    )
    (tmp_path / "bwrap").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert (await find_isolation(path)).level == "bubblewrap"
    assert (tmp_path / "once").is_dir()


def test_what_the_container_names_below_tmp_stays_visible(folder: Path) -> None:
    other = folder.with_name(f"{folder.name}-other")
    other.touch()
    link = folder / "link"
    link.symlink_to(other)
    try:
        assert named_in_tmp(_spec(working_dir=str(folder / "deep"))) == {folder}
        assert named_in_tmp(_spec("train", f"--data={folder}/data")) == {folder}
        assert named_in_tmp(_spec(PATH=f"/usr/bin:{folder}/venv/bin")) == {folder}
        assert named_in_tmp(_spec(str(link))) == {folder, other}
        assert named_in_tmp(_spec("train", "/tmp/not-there", "tmp/x", A="/tmpfs/x:/tmp2")) == set()
        assert named_in_tmp(_spec(working_dir="/tmp")) == {Path("/tmp")}
    finally:
        other.unlink()


def test_a_workdir_that_is_tmp_itself_leaves_tmp_shared(tmp_path: Path) -> None:
    args = bubblewrap_args(_spec(working_dir="/tmp"), tmp_path)
    assert str(tmp_path) not in args


def test_devices_come_after_the_fresh_dev(tmp_path: Path) -> None:
    spec = ContainerSpec(
        "c", ["true"], {}, "/", devices=[HostDevice("/dev/null", "/dev/nvidia3")], shm_bytes=4096
    )
    args = bubblewrap_args(spec, tmp_path)
    text = " ".join(args)
    assert text.startswith(
        "--bind / / --dev /dev --size 4096 --tmpfs /dev/shm --dev-bind /dev/null /dev/nvidia3 "
    )
    assert "--die-with-parent" not in args


@pytest.mark.parametrize("value", ["", "a b", "--bind", "x=y"])
def test_environment_is_passed_as_it_is(tmp_path: Path, value: str) -> None:
    args = bubblewrap_args(_spec(NAME=value), tmp_path)
    assert args[-3:] == ["--setenv", "NAME", value]


async def test_as_many_words_as_bubblewrap_takes_and_one_more(bubblewrap: Isolation, folder: Path) -> None:
    runtime = Runtimes(bubblewrap, Cgroups(), lambda: datetime.now(UTC))
    spec = ContainerSpec("c", ["true", *"x" * 20_000], {"PATH": "/usr/bin:/bin"}, "/")
    with pytest.raises(
        errors.StartError, match="the command has 20001 words, and bubblewrap takes"
    ) as caught:
        await runtime.start(folder / "many", spec)
    assert caught.value.code == 126
    most = int(caught.value.message.split("takes ")[1].split()[0])
    container = await runtime.start(folder / "most", replace(spec, argv=spec.argv[:most]))
    assert (await container.wait()).code == 0
    container.close()
    with pytest.raises(errors.StartError, match=f"takes {most} beside its own"):
        await runtime.start(folder / "more", replace(spec, argv=spec.argv[: most + 1]))


def test_too_many_variables_for_bubblewrap_are_named() -> None:
    with pytest.raises(errors.StartError, match="environment and mounts make 9000 words"):
        check_word_count(["--setenv", "A", "b"] * 3000, ["true"])
