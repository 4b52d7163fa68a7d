"""What `gpuyard build` says of its options."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuyard import errors
from gpuyard.cli.commands.build import command
from gpuyard.cli.main import cli
from tests.unit.images.conftest import Workshop, workshop

__all__ = ["workshop"]

#: Of nobody.
_TOKEN = "hf_" + "qZrTkWmPxLcVbNhJsDfGyUiOeAqZrTkWmP"
_NAMES = ("--base", "b.invalid/base:1", "-t", "b.invalid/app:1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "no base image to build on"),
        (("-t", "x"), "no base image to build on"),
        (("--base", "x"), "no name for the image"),
        (("--base", "", "-t", "x"), "no base image to build on"),
        (("--base", "BAD NAME", "-t", "x"), "'BAD NAME' is not an image's name"),
        (("--base", "oci:", "-t", "x"), "names no path"),
        ((*_NAMES, "-t", "b.invalid/app:a b"), "is not an image's name: the tag"),
        ((*_NAMES, "-t", f"b.invalid/app@sha256:{'0' * 64}"), "is a digest"),
        ((*_NAMES, "--platform", "arm64"), "'arm64' is not a platform"),
        ((*_NAMES, "--workdir", "src"), "must be an absolute path"),
        ((*_NAMES, "--workdir", "/usr"), "belongs to the system"),
        ((*_NAMES, "--env", "A"), "--env A has no value"),
        ((*_NAMES, "--env", "HOME=/x"), "is the image's own"),
        ((*_NAMES, "--env", f"A={_TOKEN}"), "the variable A has a token of Hugging Face"),
        ((*_NAMES, "--label", "io.gpuyard.x=1"), "gpuyard keeps for itself"),
        ((*_NAMES, "--copy-from", "x"), "names no file or folder"),
        ((*_NAMES, "gone"), "gone isn't a folder"),
        (("-f", "gone.yaml"), "can't read gone.yaml"),
        (("-f", "named.yaml"), "has nothing to build: its `image` is there:1"),
        (("-f", "named.yaml", "--base", "x"), "no name for the image"),
    ],
)
def test_a_wrong_combination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], why: str
) -> None:
    (tmp_path / "named.yaml").write_text("run: x\nimage: there:1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((errors.UsageError, errors.ImageReferenceError)) as caught:
        cli.main(["build", *arguments], standalone_mode=False)
    assert why in caught.value.message
    assert caught.value.exit_code == 2


def test_the_help_shows_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "--help"], standalone_mode=False) == 0
    shown = capsys.readouterr().out
    for option in (
        "-f gpuyard.yaml",
        "--requirements requirements.txt",
        "train:latest",
        "oci-archive:",
        "--env",
    ):
        assert option in shown


def test_locked_says_that_there_is_no_lock_and_frozen_wants_one(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPUYARD_HOME", str(tmp_path / "home"))
    words = [str(workshop.app), "--base", workshop.base, "-t", workshop.target]

    def built(*flags: str) -> BaseException | None:
        return CliRunner().invoke(command, [*words, *flags]).exception

    assert "--locked lets nobody change it: there was none" in str(built("--locked"))
    assert "and there is none" in str(built("--frozen"))
    assert built() is None
    assert built("--locked") is None
    assert built("--frozen") is None
    (workshop.app / "gpuyard.lock").unlink()
    monkeypatch.setenv("GPUYARD_LOCKED", "1")
    assert isinstance(built(), errors.BuildError)


def test_a_folders_spec_is_built_without_naming_it(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPUYARD_HOME", str(tmp_path / "home"))
    shop = tmp_path / "shop"
    (shop / "app").mkdir(parents=True)
    (shop / "app/train.py").write_text("x = 1")
    (shop / "more.txt").write_text("beside the workdir")
    image = f"image:\n  base: {workshop.base}\n  repository: {workshop.target}\n"
    (shop / "gpuyard.yaml").write_text(f"run: python train.py\nworkdir: app\n{image}  labels: {{a: b}}\n")
    (shop / "other.yaml").write_text(f"run: x\nworkdir: app\n{image}")

    def said(*words: str) -> str:
        done = CliRunner().invoke(command, words)
        assert done.exception is None, done.exception
        return done.stderr

    told = said(str(shop))
    assert f"Building what {shop}/gpuyard.yaml says; options win over it" in told
    assert "gpuyard.lock written" in told
    lock = (shop / "gpuyard.lock").read_bytes()
    listed = CliRunner().invoke(command, [str(shop), "--list"]).stdout
    assert "train.py" in listed
    assert "more.txt" not in listed
    # Neither another spec of the folder nor flags for another name touch the lock.
    assert "gpuyard.other.lock written" in said("-f", str(shop / "other.yaml"))
    monkeypatch.chdir(shop)
    assert "Nothing changed" in said("--base", workshop.base, "-t", workshop.target, "--locked")
    assert (shop / "gpuyard.lock").read_bytes() == lock
    listed = CliRunner().invoke(command, ["-f", "other.yaml", ".", "--list"]).stdout
    assert "more.txt" in listed and "lock" not in listed
