"""An archive of packages as Debian's are, with packages of any content, signed, and served by HTTP."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pysequoia import SignatureMode, Tsk, sign

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)

#: A file's bytes, or a link to a path.
Content = bytes | str


@dataclass(frozen=True)
class DebFile:
    """A package's file.

    Attributes:
        name: without version.
        fields: of its control file besides name, version and architecture.
        files: content by path; a text is a symbolic link.
        control: further control files by name.
        modes: by path, where it isn't 0644 (0755 of folders).
        hard_links: path → path of a file before it.
    """

    name: str
    version: str = "1.0"
    arch: str = "amd64"
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Content] = field(default_factory=dict)
    control: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    hard_links: Mapping[str, str] = field(default_factory=dict)

    @property
    def paragraph(self) -> str:
        """Its control file."""
        own = {"Package": self.name, "Version": self.version, "Architecture": self.arch}
        return "".join(f"{name}: {value}\n" for name, value in (own | dict(self.fields)).items())

    def to_bytes(self, packing: str = "xz") -> bytes:
        """As dpkg-deb writes it."""
        control = {"./control": self.paragraph.encode()}
        control |= {f"./{name}": text.encode() for name, text in self.control.items()}
        members = [("debian-binary", b"2.0\n")]
        for name, tar in (("control.tar", _tar(control, {}, {})), ("data.tar", self._data())):
            members.append((f"{name}.{packing}" if packing else name, _packed(tar, packing)))
        return b"!<arch>\n" + b"".join(
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
            for name, content in members
        )

    def _data(self) -> bytes:
        folders = {""}
        for path in self.files:
            while path := path.rpartition("/")[0]:
                folders.add(path)
        content: dict[str, Content | None] = {f"./{folder}": None for folder in sorted(folders)}
        content |= {f"./{path}": each for path, each in self.files.items()}
        return _tar(content, self.modes, self.hard_links)


def _tar(
    files: Mapping[str, Content | None], modes: Mapping[str, int], hard_links: Mapping[str, str]
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, modes.get(path[2:], 0o755)
            elif isinstance(content, str):
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, content, 0o777
            else:
                info.size, info.mode = len(content), modes.get(path[2:], 0o644)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
        for path, target in hard_links.items():
            info = tarfile.TarInfo(f"./{path}")
            info.type, info.linkname = tarfile.LNKTYPE, f"./{target}"
            tar.addfile(info)
    return out.getvalue()


def _packed(tar: bytes, packing: str) -> bytes:
    if packing == "xz":
        return lzma.compress(tar)
    if packing == "gz":
        import gzip

        return gzip.compress(tar)
    if packing == "zst":
        import zstandard

        return zstandard.ZstdCompressor().compress(tar)
    return tar


@dataclass
class DebianArchive:
    """Files by path; `publish` writes its indexes anew.

    Attributes:
        key: who signs.
        served: paths that were asked for.
        logins: what was sent as Authorization.
        refused: paths of which the answer is 403.
    """

    key: Tsk = field(default_factory=lambda: Tsk.generate("archive <a@example.org>"))
    files: dict[str, bytes] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    address: str = ""

    @property
    def keyring(self) -> bytes:
        """Who may sign."""
        return bytes(self.key.extract_certificate())

    def publish(
        self,
        packages: Sequence[DebFile],
        *,
        date: datetime = NOW,
        valid: timedelta | None = None,
        by_hash: bool = True,
        detached: bool = False,
        more: str = "",
        ending: str = ".xz",
    ) -> None:
        """Writes packages and indexes of the suite `stable`, component `main`."""
        paragraphs = []
        for package in packages:
            content = package.to_bytes()
            path = f"pool/{package.name}_{package.version.replace(':', '%3a')}_{package.arch}.deb"
            self.files[path] = content
            paragraphs.append(
                f"{package.paragraph}Filename: {path}\nSize: {len(content)}\n"
                f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
            )
        index = _packed("\n".join(paragraphs).encode(), ending.removeprefix("."))
        name = f"main/binary-amd64/Packages{ending}"
        sha256 = hashlib.sha256(index).hexdigest()
        self.files[f"dists/stable/{name}"] = index
        if by_hash:
            self.files[f"dists/stable/main/binary-amd64/by-hash/SHA256/{sha256}"] = index
        lines = [
            "Origin: Test",
            "Suite: stable",
            f"Date: {date:%a, %d %b %Y %H:%M:%S} UTC",
            *([f"Valid-Until: {date + valid:%a, %d %b %Y %H:%M:%S} UTC"] if valid else []),
            *(["Acquire-By-Hash: yes"] if by_hash else []),
            *([more] if more else []),
            "Architectures: amd64",
            "Components: main",
            "SHA256:",
            f" {sha256} {len(index)} {name}",
        ]
        self.sign("\n".join(lines) + "\n", detached=detached)

    def sign(self, text: str, *, detached: bool = False) -> None:
        """Writes a Release, signed."""
        for name in ("InRelease", "Release", "Release.gpg"):
            self.files.pop(f"dists/stable/{name}", None)
        if detached:
            self.files["dists/stable/Release"] = text.encode()
            self.files["dists/stable/Release.gpg"] = sign(
                self.key.signer(), text.encode(), mode=SignatureMode.DETACHED
            )
        else:
            self.files["dists/stable/InRelease"] = sign(
                self.key.signer(), text.encode(), mode=SignatureMode.CLEAR
            )

    def base_files(self, status: str = "", **more: bytes) -> dict[str, bytes]:
        """Files of a base that gets its packages here."""
        return {
            "etc/apt/sources.list": f"deb {self.address} stable main\n".encode(),
            "etc/apt/trusted.gpg.d/test.gpg": self.keyring,
            "var/lib/dpkg/status": status.encode(),
        } | more


@contextmanager
def serve(archive: DebianArchive) -> Iterator[None]:
    """Serves an archive on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/").replace("%25", "%").replace("%2B", "+")
            archive.served.append(path)
            if login := self.headers["Authorization"]:
                archive.logins.append(login)
            content = None if path in archive.refused else archive.files.get(path)
            self.send_response(403 if path in archive.refused else 404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    archive.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
