"""Sources that wheels are built of: a commit of a repository, or an archive by its hash."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

#: In the place of names: whatever has no wheel.
ALL_SOURCES = ":all:"

_GIT = re.compile(r"git\+(?P<url>[^#]+)@(?P<commit>[0-9a-f]{40,64})(?:#subdirectory=(?P<subdirectory>.+))?")
_ARCHIVE = re.compile(r"(?P<where>.+)#sha256=(?P<sha256>[0-9a-f]{64})")


@dataclass(frozen=True, order=True)
class Source:
    """What one wheel is built of.

    Attributes:
        url: of a repository or an archive, or a path; without a login.
        commit: of a repository; empty of an archive.
        subdirectory: of the repository that the project is in.
        sha256: of an archive.
        login: user and password that the URL came with, for this build alone.
    """

    url: str
    commit: str = ""
    subdirectory: str = ""
    sha256: str = ""
    login: str = ""

    @property
    def text(self) -> str:
        """As the lock has it."""
        if self.commit:
            inner = f"#subdirectory={self.subdirectory}" if self.subdirectory else ""
            return f"git+{self.url}@{self.commit}{inner}"
        return f"{self.url}#sha256={self.sha256}"

    @classmethod
    def of_text(cls, text: str) -> Source | None:
        """From the lock; None of a text that is none."""
        if git := _GIT.fullmatch(text):
            return cls(git["url"], git["commit"], git["subdirectory"] or "")
        if archive := _ARCHIVE.fullmatch(text):
            return cls(archive["where"], sha256=archive["sha256"])
        return None


def without_login(url: str) -> tuple[str, str]:
    """A URL without the user and password in it, and these; `git@host` of ssh is no secret and stays."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme == "ssh":
        return url, ""
    return parts._replace(netloc=host).geturl(), login
