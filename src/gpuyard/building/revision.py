"""The commit that an image's files are of, told beside the image: by a manifest that refers to it.

It is no part of the image: the same files have the same digest at any commit, and without a repository.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from gpuyard.building.documents.sbom import EMPTY
from gpuyard.building.layers.layer_upload import descriptor_of
from gpuyard.building.workdir.application import Application
from gpuyard.building.workdir.git import Repository, git_environ, read_text
from gpuyard.images.oci import OCI_EMPTY, OCI_MANIFEST, Descriptor, Digest, Manifest
from gpuyard.images.store import ImageStore
from gpuyard.images.subprocesses import outputs
from gpuyard.images.transfer import ensure_blobs

ANNOTATION = "org.opencontainers.image.revision"
ARTIFACT = "application/vnd.gpuyard.source.v1"
#: As other tools mark a commit whose files were changed since.
DIRTY = "-dirty"

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_GIT = ("git", "--no-optional-locks", "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames")
#: Of a repository that is looked through for changes; then nothing is said of a commit.
_LONGEST_S = 5.0


async def record_revision(store: ImageStore, image: Descriptor, revision: str, *, may_be_known: bool) -> None:
    """Has the store say which commit an image is of; an image keeps the first that had its very files.

    Args:
        store: that has the image.
        image: its manifest or index.
        revision: what `source_revision` gave.
        may_be_known: the image was there before.
    """
    if not revision or (may_be_known and await _is_known(store, image.digest, revision)):
        return
    empty, blob = descriptor_of(OCI_EMPTY, EMPTY)
    await ensure_blobs(store, [blob])
    manifest = Manifest(
        config=empty,
        layers=(empty,),
        subject=Descriptor(image.media_type, image.digest, image.size),
        artifact_type=ARTIFACT,
        annotations={ANNOTATION: revision},
    )
    await store.put_manifest(manifest.to_bytes(), OCI_MANIFEST)


async def _is_known(store: ImageStore, digest: Digest, revision: str) -> bool:
    """Whether a commit is recorded, and this one would tell no more."""
    known = await recorded_revision(store, digest)
    return bool(known) and (revision.endswith(DIRTY) or not known.endswith(DIRTY))


async def recorded_revision(store: ImageStore, digest: Digest) -> str:
    """The commit that the store tells of an image: the first whose files it has, else one with changes."""
    found = [
        entry.annotations[ANNOTATION]
        for entry in await store.referrers(digest)
        if entry.artifact_type == ARTIFACT and ANNOTATION in entry.annotations
    ]
    return min(found, key=lambda revision: revision.endswith(DIRTY), default="")


async def source_revision(application: Application, environ: Mapping[str, str]) -> str:
    """The commit of a workdir, with `-dirty` where packed files differ from it.

    Empty outside a repository, before its first commit, and where git can't be asked.
    """
    root = application.root.resolve()
    repository = Repository.above(root)
    commit = _head(repository) if repository else ""
    if not repository or not commit:
        return ""
    try:
        async with asyncio.timeout(_LONGEST_S):
            changed = await _changed(root, environ)
    except (OSError, TimeoutError):
        return ""
    if changed is None:
        return ""
    prefix = "".join(f"{part}/" for part in root.relative_to(repository.top).parts)
    packed = [f"{prefix}{path}" for path, _ in application.files]
    return f"{commit}{DIRTY}" if _concerns(changed, packed) else commit


async def _changed(root: Path, environ: Mapping[str, str]) -> list[tuple[str, str]] | None:
    """Two letters of `git status` and a path from the repository's top; None where git refuses."""
    process = await asyncio.create_subprocess_exec(
        *_GIT, "--", ".",
        cwd=root,
        env=git_environ(environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await outputs(process)
    if process.returncode:
        return None
    entries = out.decode("utf-8", "surrogateescape").split("\0")
    return [(entry[:2], entry[3:]) for entry in entries if entry]


def _concerns(changed: list[tuple[str, str]], packed: list[str]) -> bool:
    """Whether what git reports is of a file that is packed, or would be were it there."""
    if not changed:
        return False
    # A submodule is reported as its folder.
    known = {*packed, *(str(parent) for file in packed for parent in PurePosixPath(file).parents)}
    return any("D" in letters or path.rstrip("/") in known for letters, path in changed)


def _head(repository: Repository) -> str:
    """The commit's hash, read from git's own files: most folders are in no repository, or need no git."""
    head = read_text(repository.folder / "HEAD").strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else ""
    name = head.removeprefix("ref: ")
    commit = read_text(repository.common / name).strip()
    if not commit:
        lines = (line.split(" ") for line in read_text(repository.common / "packed-refs").splitlines())
        commit = next((words[0] for words in lines if words[1:] == [name]), "")
    return commit if _COMMIT.fullmatch(commit) else ""
