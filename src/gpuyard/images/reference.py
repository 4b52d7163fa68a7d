"""Names of images, read and written as Docker does (distribution/reference, its grammar and defaults)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from gpuyard import errors
from gpuyard.images.oci import Digest

DOCKER_HUB = "docker.io"
_DEFAULT_TAG = "latest"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_NAME = 255
_NO_DIGEST = Digest("")


@dataclass(frozen=True, order=True)
class ImageReference:
    """Where an image is, written out: `debian` is docker.io, library/debian, latest.

    Attributes:
        registry: host with its port if any; "docker.io" for Docker Hub.
        repository: path inside the registry.
        tag: empty only when there is a digest.
        digest: wins over the tag when both are there.
    """

    registry: str
    repository: str
    tag: str = _DEFAULT_TAG
    digest: Digest = _NO_DIGEST

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Reads REGISTRY/REPOSITORY:TAG@DIGEST with Docker's defaults.

        Raises:
            ImageReferenceError: with the part that is wrong.
        """
        name, _, digest = text.partition("@")
        if "@" in text and not _DIGEST.fullmatch(digest):
            raise _wrong(text, f"the digest {digest!r} is not sha256: and 64 lower-case hex digits")
        tag = ""
        if ":" in name.rpartition("/")[2]:
            name, _, tag = name.rpartition(":")
            if not TAG.fullmatch(tag):
                raise _wrong(text, f"the tag {tag!r} is not 1 to 128 letters, digits, '_', '.' or '-'")
        registry, repository = _split(name)
        if not _REGISTRY.fullmatch(registry):
            raise _wrong(text, f"{registry!r} is not a host name with an optional port")
        if not _REPOSITORY.fullmatch(repository):
            hint = " (letters must be lower-case)" if _REPOSITORY.fullmatch(repository.lower()) else ""
            raise _wrong(text, f"the repository {repository!r} is not a path of names{hint}")
        if len(registry) + 1 + len(repository) > _MAX_NAME:
            raise _wrong(text, f"the name is longer than {_MAX_NAME} characters")
        return cls(registry, repository, tag or ("" if digest else _DEFAULT_TAG), Digest(digest))

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What to ask a store for: the digest if there is one, else the tag."""
        return self.digest or self.tag

    def pinned(self, digest: Digest) -> ImageReference:
        """The same repository by digest alone."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def _split(name: str) -> tuple[str, str]:
    """Registry and repository; the first part is a registry only when it can't be a repository's name."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry, repository = first, rest
    else:
        registry, repository = DOCKER_HUB, name
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and repository and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _wrong(text: str, why: str) -> errors.ImageReferenceError:
    return errors.ImageReferenceError(
        f"{text!r} is not an image's name: {why}",
        remedy="write REGISTRY/REPOSITORY:TAG, such as registry.example.com/team/train:v1",
    )
