"""The commit that an image's files are of, told beside the image: by a manifest that refers to it.

It is no part of the image: the same files have the same digest at any commit, and without a repository.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from gpuyard.building.documents.sbom import EMPTY
from gpuyard.building.layers.layer_upload import descriptor_of
from gpuyard.building.workdir.application import Application
from gpuyard.building.workdir.git import GIT, Repository
from gpuyard.images.oci import OCI_EMPTY, OCI_MANIFEST, Descriptor, Digest, Manifest
from gpuyard.images.store import ImageStore
from gpuyard.images.subprocesses import outputs
from gpuyard.images.transfer import ensure_blobs

ANNOTATION = "org.opencontainers.image.revision"
ARTIFACT = "application/vnd.gpuyard.source.v1"
#: As other tools mark a commit whose files were changed since.
DIRTY = "-dirty"

#: A submodule's git would be started with its own configuration; it is asked for itself.
_STATUS = (
    "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=dirty",
)  # fmt: skip
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
    commit = repository.commit if repository else ""
    if not repository or not commit:
        return ""
    try:
        async with asyncio.timeout(_LONGEST_S):
            dirty = [
                await _is_changed(Repository.at(top), folder, packed, environ)
                for top, folder, packed in _parts(repository, root, [path for path, _ in application.files])
            ]
    except (OSError, TimeoutError):
        return ""
    return "" if None in dirty else f"{commit}{DIRTY}" if True in dirty else commit


def _parts(repository: Repository, root: Path, packed: list[str]) -> Iterator[tuple[Path, Path, list[str]]]:
    """Each repository that packed files are of: its top, the folder of it that is asked about, and the files
    below the top."""
    yield repository.top, root, [str(root.relative_to(repository.top) / path) for path in packed]
    folders = {str(folder) for path in packed for folder in PurePosixPath(path).parents} - {"."}
    for folder in sorted(folders):
        if (root / folder / ".git").exists():
            below = f"{folder}/"
            files = [path.removeprefix(below) for path in packed if path.startswith(below)]
            yield root / folder, root / folder, files


async def _is_changed(
    repository: Repository, folder: Path, packed: list[str], environ: Mapping[str, str]
) -> bool | None:
    """Whether packed files differ from the commit; None where git refuses."""
    with repository.read_only(environ) as env:
        process = await asyncio.create_subprocess_exec(
            *GIT, *_STATUS, "--", ".",
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        out, _ = await outputs(process)
    if process.returncode:
        return None
    # Two letters and a path from the repository's top.
    entries = out.decode("utf-8", "surrogateescape").split("\0")
    return _concerns([(entry[:2], entry[3:]) for entry in entries if entry], packed)


def _concerns(changed: list[tuple[str, str]], packed: list[str]) -> bool:
    """Whether what git reports is of a file that is packed, or would be were it there."""
    if not changed:
        return False
    # A submodule is reported as its folder.
    known = {*packed, *(str(parent) for file in packed for parent in PurePosixPath(file).parents)}
    return any("D" in letters or path.rstrip("/") in known for letters, path in changed)
