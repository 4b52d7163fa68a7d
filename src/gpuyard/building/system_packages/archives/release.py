"""An archive's Release file: which indexes there are, with size and hash, and when it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from gpuyard import errors
from gpuyard.building.system_packages.archives.sources import AptSource
from gpuyard.building.system_packages.control import parse_fields

#: Clocks differ; what is later than this was made for another day.
_MOST_AHEAD = timedelta(hours=1)
#: apt's priorities (apt_preferences(5)).
_PIN, _PIN_NOT_AUTOMATIC, _PIN_UPGRADES = 500, 1, 100


@dataclass(frozen=True)
class IndexFile:
    """One file of an archive, by its path below the suite's folder."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ReleaseFile:
    """What a signed Release says.

    Attributes:
        date: when it was made; None when it doesn't say.
        valid_until: None for ever.
        by_hash: whether indexes can be had by their hash.
        pin: apt's priority of what the suite has.
        all_is_apart: whether packages for all architectures have an index of their own.
    """

    text: str
    date: datetime | None
    valid_until: datetime | None
    by_hash: bool
    pin: int
    all_is_apart: bool
    files: Mapping[str, IndexFile]

    @classmethod
    def parse(cls, content: bytes, source: AptSource) -> ReleaseFile:
        """Raises BuildError when it lists no indexes with SHA256."""
        text = content.decode("utf-8", "replace")
        fields = parse_fields(text)
        files: dict[str, IndexFile] = {}
        for line in fields.get("sha256", "").splitlines():
            match line.split():
                case [sha256, size, path] if size.isdigit() and len(sha256) == 64:
                    path = path.removeprefix("./")
                    files[path] = IndexFile(path, int(size), sha256.lower())
        if not files:
            raise errors.BuildError(
                f"the Release of {source} lists no indexes by SHA256",
                remedy="see that the address is an archive of packages",
            )
        not_automatic = fields.get("notautomatic", "").lower() == "yes"
        upgrades = fields.get("butautomaticupgrades", "").lower() == "yes"
        return cls(
            text,
            _date(fields.get("date", "")),
            _date(fields.get("valid-until", "")),
            fields.get("acquire-by-hash", "").lower() == "yes",
            (_PIN_UPGRADES if upgrades else _PIN_NOT_AUTOMATIC) if not_automatic else _PIN,
            "all" in fields.get("architectures", "").split()
            and "packages" not in fields.get("no-support-for-architecture-all", "").lower(),
            files,
        )

    def check_dates(self, source: AptSource, now: datetime) -> None:
        """Raises BuildError when it is outdated, or from the future."""
        if self.date and self.date > now + _MOST_AHEAD:
            raise errors.BuildError(
                f"the index of {source} was made at {_said(self.date)}, and here it is {_said(now)}",
                remedy="set this machine's clock",
            )
        if source.checks_date and self.valid_until and self.valid_until < now:
            raise errors.BuildError(
                f"the index of {source} was valid until {_said(self.valid_until)}, and here it is "
                f"{_said(now)}: the mirror is outdated, or somebody holds newer ones back",
                remedy="use another mirror (GPUYARD_APT_MIRRORS), or set this machine's clock",
            )


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _said(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
