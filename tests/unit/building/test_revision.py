"""The commit of an image's files: told beside the image, which is the same at any commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gpuyard.building.image_summary import summarise
from gpuyard.building.revision import ANNOTATION, ARTIFACT, source_revision
from gpuyard.building.workdir.application import read_application
from gpuyard.images.oci import Manifest, parse_manifest
from gpuyard.images.places import Places
from tests.unit.images.conftest import Workshop


def git(folder: Path, *words: str) -> str:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example", "GIT_CONFIG_GLOBAL": "/dev/null"}
    who |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *words], cwd=folder, env=os.environ | who, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def git_commit(folder: Path, *words: str) -> str:
    """Commits all that is in a folder, as a repository of its own; the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=x", *words)
    return git(folder, "rev-parse", "HEAD")


async def revision(folder: Path) -> str:
    return await source_revision(read_application(folder, os.environ), os.environ)


async def revisions(workshop: Workshop, target: str | None = None) -> list[str]:
    """What refers to the image and names a commit."""
    async with Places({}) as places:
        place = await places.open(target or workshop.target)
        found = await place.store.find_manifest(place.target)
        assert found is not None
        referrers = await place.store.referrers(found.digest)
    return [entry.annotations[ANNOTATION] for entry in referrers if entry.artifact_type == ARTIFACT]


async def shown(workshop: Workshop) -> str:
    async with Places({}) as places:
        (image,) = await summarise(await places.open(workshop.target))
    return image.revision


async def test_the_digest_is_the_same_at_any_commit_and_without_a_repository(
    workshop: Workshop, tmp_path: Path
) -> None:
    without = await workshop.build(target=f"oci:{tmp_path / 'without'}:v1")
    assert await revisions(workshop, f"oci:{tmp_path / 'without'}:v1") == []

    commit = git_commit(workshop.app)
    first = await workshop.build()
    git_commit(workshop.app, "--allow-empty")
    later = await workshop.build(target=f"oci:{tmp_path / 'later'}:v1")
    assert first.digest == later.digest == without.digest
    assert await shown(workshop) == commit
    assert await revisions(workshop) == [commit]
    assert ANNOTATION not in (await workshop.read())[0].annotations
    assert ".git" not in str(list(await workshop.layer(-1)))
    copy = tmp_path / "copy"
    shutil.copytree(workshop.app, copy, ignore=shutil.ignore_patterns(".git"))
    assert (await workshop.build(root=copy, target=f"oci:{tmp_path / 'copied'}:v1")).digest == first.digest


async def test_the_first_commit_that_has_the_files_stays(workshop: Workshop) -> None:
    await workshop.build()
    commit = git_commit(workshop.app)
    assert (await workshop.build()).unchanged
    assert await revisions(workshop) == [commit]
    git_commit(workshop.app, "--allow-empty")
    await workshop.build()
    assert await revisions(workshop) == [commit]


async def test_a_commit_of_what_was_built_before_takes_the_place_of_changes(workshop: Workshop) -> None:
    before = git_commit(workshop.app)
    (workshop.app / "train.py").write_text("print('changed')\n")
    await workshop.build()
    assert await shown(workshop) == f"{before}-dirty"
    after = git_commit(workshop.app)
    assert (await workshop.build()).unchanged
    assert await shown(workshop) == after


async def test_the_artifact_is_as_oci_has_it(workshop: Workshop) -> None:
    git_commit(workshop.app)
    built = await workshop.build()
    async with Places({}) as places:
        place = await places.open(workshop.target)
        (entry,) = [e for e in await place.store.referrers(built.digest) if e.artifact_type == ARTIFACT]
        document = parse_manifest((await place.store.get_manifest(entry.digest))[1])
        assert isinstance(document, Manifest) and document.subject is not None
        assert document.subject.digest == built.digest
        assert document.layers == (document.config,)
        assert await place.store.has_blob(document.config.digest)


async def test_changes_of_what_is_packed_are_told(tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "sub").mkdir(parents=True)
    for name in ("a.py", "sub/b.py", "notes.txt", "../outside.py"):
        (app / name).write_text("x\n")
    (app / ".gpuyardignore").write_text("notes.txt\n*.log\n")
    commit = git_commit(tmp_path)
    assert await revision(app) == await revision(app / "sub") == commit

    # What isn't packed doesn't matter.
    (app / "notes.txt").write_text("y\n")
    (app / "run.log").write_text("y\n")
    (tmp_path / "outside.py").write_text("y\n")
    (app / "gpuyard.lock").write_text("y\n")
    assert (
        await source_revision(read_application(app, os.environ, leave_out=("gpuyard.lock",)), os.environ)
        == commit
    )
    (app / "gpuyard.lock").unlink()

    (app / "sub" / "ä new.py").write_text("x\n")
    assert await revision(app) == f"{commit}-dirty"
    (app / "sub" / "ä new.py").unlink()
    (app / "a.py").unlink()
    assert await revision(app) == f"{commit}-dirty"
    (app / "a.py").write_text("y\n")
    assert await revision(app) == f"{commit}-dirty"
    assert await revision(app / "sub") == commit


async def test_a_hook_s_own_repository_is_not_meant(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n")
    commit = git_commit(tmp_path)
    environ = os.environ | {"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere"}
    assert await source_revision(read_application(tmp_path, os.environ), environ) == commit


async def test_no_commit_no_revision(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n")
    assert await revision(tmp_path) == ""
    git(tmp_path, "init", "--quiet")
    assert await revision(tmp_path) == ""
    git_commit(tmp_path)
    # Where git can't be asked, nobody knows whether the files are the commit's.
    assert await source_revision(read_application(tmp_path, os.environ), {"PATH": "/nowhere"}) == ""


async def test_a_worktree_has_its_own(tmp_path: Path) -> None:
    main = tmp_path / "main"
    main.mkdir()
    (main / "a.py").write_text("x\n")
    git_commit(main)
    git(main, "pack-refs", "--all")
    git(main, "worktree", "add", "--quiet", "-b", "other", "../other")
    (tmp_path / "other" / "b.py").write_text("x\n")
    commit = git_commit(tmp_path / "other")
    assert await revision(tmp_path / "other") == commit
    assert await revision(main) != commit
