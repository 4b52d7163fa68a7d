"""`cp`: files and folders out of runs and into them, whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.waiting import until

from .conftest import Yard
from .shell import NOWHERE, Shell

MAKES = """
mkdir -p out/deep && cd out && echo one > a && chmod 750 a && ln -s a last && ln -s /etc/passwd away
head -c 300000 /dev/zero > deep/big && touch -d @1700000000 deep/big && touch ../made && sleep 600
"""


def here(target: Shell) -> str:
    """A folder that runs may write into."""
    return str(Path(target.gate).parent)


def test_a_folder_and_a_file_come_out_of_a_run_as_they_are(target: Shell) -> None:
    out = f"{here(target)}/out"
    target.background("train", "--", "sh", "-c", f"cd {here(target)} && {MAKES}")
    target.ok("exec", "train", "--", "sh", "-c", f"until [ -e {here(target)}/made ]; do sleep 0.1; done")
    result = target.call("cp", f"tr:{out}", "copy")
    assert (result.code, result.out) == (0, ""), result.err
    assert "left out: ./away: a link that leads out of the folder" in result.err
    copy = target.work / "copy"
    assert sorted(path.name for path in copy.rglob("*")) == ["a", "big", "deep", "last"]
    assert stat.S_IMODE((copy / "a").stat().st_mode) == 0o750 and (copy / "last").readlink().name == "a"
    assert (copy / "deep/big").stat().st_mtime == 1_700_000_000
    # Into a folder that is there; a link that is named itself is followed; what is there is replaced.
    (target.work / "copy/a").write_text("old")
    target.ok("cp", f"@:{out}/last", "copy/a")
    target.ok("cp", f"train:{out}", ".")
    assert (copy / "a").read_text() == (target.work / "out/a").read_text() == "one\n"
    assert not [name for name in os.listdir(target.work) if name.startswith(".")]


def test_files_and_folders_go_into_a_run_and_nothing_half_is_seen(target: Shell) -> None:
    target.background("train", "--", "sleep", "600")
    folder, taken = target.work / "give", f"{here(target)}/taken"
    (folder / "deep").mkdir(parents=True)
    target.script("give/deep/-x y", "hello").chmod(0o640)
    target.ok("cp", "give", f"train:{taken}")
    target.script("give/deep/more", "more")
    target.ok("cp", "give/deep", f"train:{taken}")  # added to what is there
    said = target.ok("exec", "train", "--", "sh", "-c", f"cd {taken} && stat -c %a deep/-* && cat deep/*")
    assert said == "640\nhellomore"
    with (folder / "huge").open("wb") as huge:
        huge.truncate(4 << 30)
    going = target.start("cp", "give/huge", f"train:{taken}/huge")
    ls = ("exec", "train", "--", "ls", "-A", taken)
    until(lambda: target.ok(*ls), "it is on its way", lambda said: ".gpuyard-new-" in said)
    going.kill()
    # What is left of it goes, too, unless its container's end or a yard's patience comes first.
    assert {name for name in target.ok(*ls).split() if not name.startswith(".gpuyard-new-")} == {"deep"}


def test_what_can_not_be_copied_is_said(target: Shell) -> None:
    target.background("train", "--", "sleep", "600")
    target.script("x", "x")
    assert "it isn't there" in target.refused(1, "cp", "train:nosuch", "y")
    assert "there is no folder /nosuch" in target.refused(1, "cp", "x", "train:/nosuch/y")
    assert "there is no folder nosuch" in target.refused(2, "cp", "train:/etc/passwd", "nosuch/y")
    assert "there is no nosuch" in target.refused(2, "cp", "nosuch", "train:/tmp")
    assert "neither is in a run" in target.refused(2, "cp", "./a:b", "x")
    assert "both are in runs" in target.refused(2, "cp", "a:b", "c:d")
    target.ok("run", "-d", "-n", "waits", *NOWHERE, "--", "true")
    assert "doesn't run yet" in target.refused(1, "cp", "waits:x", ".")


def test_a_folder_that_changes_while_it_is_copied_is_there_and_that_is_told(yard: Yard) -> None:
    makes = "mkdir out && truncate -s 100M out/grows && touch made"
    grows = f"{makes} && exec >> out/grows && while :; do echo; done"
    yard.background("grows", "--", "sh", "-c", grows)
    yard.ok("exec", "grows", "--", "sh", "-c", "until [ -e made ]; do sleep 0.1; done")
    result = yard.call("cp", "grows:out", "copy")
    assert (result.code, result.out) == (1, "")
    assert "changed while it was copied: tar: ./grows: file changed as we read it" in result.err
    assert "Copied 10" in result.err
    assert (yard.work / "copy/grows").stat().st_size >= 100 << 20
