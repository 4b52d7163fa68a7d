"""Who signed an archive's index, checked against the base's keyrings with Sequoia (OpenPGP, RFC 9580)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.building.system_packages.archives.sources import AptSource

if TYPE_CHECKING:
    from pysequoia import Cert

_TRUSTED = ("etc/apt/trusted.gpg", "etc/apt/trusted.gpg.d/")
_ENDINGS = (".gpg", ".asc", ".pgp")


class Keyring:
    """The keys that may sign one source's index.

    Args:
        source: whose.
        files: of the base, by path without a leading slash.

    Raises:
        BuildError: the source names a keyring that isn't in the base, or none can be read.
    """

    def __init__(self, source: AptSource, files: Mapping[str, bytes]) -> None:
        self._source = source
        paths = [word for word in source.keyrings if word.startswith("/")]
        self._prints = [word.rstrip("!").lower() for word in source.keyrings if not word.startswith("/")]
        if source.key:
            self._said = f"the key in {source.where}"
            self._certs = _read(source.key.encode(), self._said)
        elif paths:
            self._said = ", ".join(paths)
            self._certs = [cert for path in paths for cert in self._named(path, files)]
        else:
            self._said = "the keyrings in /etc/apt/trusted.gpg.d"
            self._certs = _trusted(files)

    def _named(self, path: str, files: Mapping[str, bytes]) -> Sequence[Cert]:
        content = files.get(path.lstrip("/"))
        if content is None:
            raise errors.BuildError(
                f"{self._source.where} of the base wants {self._source} to be signed by {path}, and the base "
                "has no such file",
                remedy="choose a base with that keyring, or leave the source out with GPUYARD_APT_MIRRORS",
            )
        return _read(content, path)

    def verified(self, content: bytes, signature: bytes | None = None) -> bytes:
        """The text that was signed.

        Args:
            content: signed within (InRelease), or the text itself.
            signature: the text's, where that is apart (Release.gpg).

        Raises:
            BuildError: none of the keys signed it.
        """
        from pysequoia import Sig, verify

        asked: list[str] = []

        def keys(ids: list[str]) -> list[Cert]:
            asked.extend(ids)
            return list(self._certs)

        try:
            if signature is None:
                found = verify(bytes=content, store=keys)
            else:
                found = verify(bytes=content, store=keys, signature=Sig.from_bytes(signature))
        except Exception as error:
            raise self._refused(asked, str(error).partition("\n")[0]) from error
        signers = {key.lower() for sig in found.valid_sigs for key in (sig.certificate, sig.signing_key)}
        if not signers or (self._prints and not signers & set(self._prints)):
            raise self._refused(asked, "nobody signed it who may")
        return content if signature is not None else found.bytes or b""

    def _refused(self, asked: Sequence[str], why: str) -> errors.BuildError:
        known = {cert.fingerprint.lower() for cert in self._certs}
        ids = ", ".join(sorted({each.upper() for each in asked})) or "no key"
        detail = why
        if asked and self._certs:
            expired = [c for c in self._certs if c.fingerprint.lower() in asked and c.expiration]
            late = ", ".join(f"{c.fingerprint.upper()} ends {c.expiration:%Y-%m-%d}" for c in expired)
            detail = f"{why}; {late}" if late else why
        whose = "" if known else ", which holds none"
        return errors.BuildError(
            f"the index of {self._source} isn't signed by a key that the base trusts: it names {ids}, and "
            f"the base trusts {self._said}{whose} ({detail})",
            remedy="see that the address or mirror is the right one; a base older than its archive's keys "
            "needs a newer tag",
        )


def _trusted(files: Mapping[str, bytes]) -> list[Cert]:
    """All that apt trusts when a source names nobody; what can't be read is passed over, as in apt."""
    found: list[Cert] = []
    for path, content in sorted(files.items()):
        if path == _TRUSTED[0] or (path.startswith(_TRUSTED[1]) and path.endswith(_ENDINGS)):
            try:
                found += _read(content, path)
            except errors.BuildError:
                continue
    return found


def _read(content: bytes, where: str) -> list[Cert]:
    from pysequoia import Cert

    try:
        return list(Cert.split_bytes(content))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise errors.BuildError(
            f"the base's keyring {where} can't be read: {reason}", remedy="choose another base, or mend it"
        ) from error
