"""Podman: whether it works on this host, images that it has and pulls, containers that it knows."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime.podman.arguments import LABEL_FOLDER, LABEL_YARD
from gpuyard.local.runtime.podman.layout_links import linked, own_name, path_of
from gpuyard.local.runtime.podman.probe import LABEL_TRIAL, Flags, find_flags
from gpuyard.local.runtime.trials import is_left_behind, trial_folder

log = logging.getLogger(__name__)

PODMAN = "podman"

_INSTALL = (
    "install podman (Debian: podman runc netavark uidmap) and restart the yard: "
    "`gpuyard down --keep`, then `gpuyard up`"
)
_CALL_S = 120.0
_STOP_S = 5.0
_REMOVE_PAUSES_S = (0.1, 1.0, 0.0)


@dataclass(frozen=True)
class PodmanImage:
    """An image that podman has.

    Attributes:
        id: of its config.
        name: with its digest where it came with one, for people.
        user: that it runs as; empty for root.
    """

    id: str
    name: str
    user: str = ""


@dataclass(frozen=True)
class ContainerEnd:
    """How a container ended; `finished_at` is aware UTC."""

    exit_code: int
    out_of_memory: bool
    finished_at: datetime


class Podman:
    """The podman of this host, asked through its command line.

    `probe` has to run once; `ready` waits for it. Whoever only wants to know early whether images have a
    chance reads `problem`.

    Attributes:
        yard: on the label of each container, so that yards of one host leave one another's alone.
        problem: why no container can run; empty while none is known.
        version: of podman; empty until the probe is through.
    """

    def __init__(self, program: str | None, yard: str) -> None:
        self.yard = yard
        self.version = ""
        self.problem = "" if program else "podman isn't installed on this machine"
        self.flags = Flags()
        self._program = program or ""
        self._probed = asyncio.Event()
        if not program:
            self._probed.set()

    @classmethod
    def find(cls, yard: str, search_path: str) -> Podman:
        """Looks for podman in `search_path`."""
        return cls(shutil.which("podman", path=search_path), yard)

    @property
    def environment(self) -> dict[str, str]:
        """Podman's own: the daemon's, with its proxies, credentials and folders."""
        return dict(os.environ)

    async def probe(self) -> None:
        """Finds out what this host needs; what it needs and can't have becomes the `problem`."""
        if self._probed.is_set():
            return
        try:
            version = json.loads(await self._output("version", "--format", "json"))
            self.flags = await self._find_flags()
            self.version = str(version["Client"]["Version"])
        except (errors.ImageError, ValueError, KeyError) as error:
            self.problem = f"podman doesn't work here: {error}"
            log.warning("%s", self.problem)
        finally:
            self._probed.set()

    async def _find_flags(self) -> Flags:
        name = f"gpuyard-trial-{self.yard}"
        with trial_folder() as folder:
            try:
                return await find_flags(self._try, name, folder, os.environ.get("PATH", os.defpath))
            finally:
                await self.remove(name)

    async def ready(self) -> None:
        """Waits for the probe.

        Raises:
            ImageError: containers can't run here.
        """
        await self._probed.wait()
        if self.problem:
            raise errors.ImageError(self.problem, remedy=_INSTALL)

    def command(self, *args: str) -> list[str]:
        """A command line of podman with the flags that this host needs."""
        return [self._program, "--log-level=error", *self.flags.of_podman, *args]

    # -- images -----------------------------------------------------------------------------------------

    async def find_image(self, reference: str) -> PodmanImage | None:
        """The image, if podman has it."""
        return await self._inspect(reference, reference)

    async def _inspect(self, image: str, reference: str) -> PodmanImage | None:
        code, output, _ = await self._run(["image", "inspect", "--format", "json", image])
        if code != 0:
            return None
        raw = json.loads(output)[0]
        # The same image may have come from several repositories.
        digests = [
            name for name in raw.get("RepoDigests") or () if name.startswith(f"{_repository(reference)}@")
        ]
        name = next(iter(digests), reference)
        return PodmanImage(raw["Id"], name, (raw.get("Config") or {}).get("User") or "")

    async def pull(self, reference: str, *, plain_http: bool = False) -> PodmanImage:
        """Gets it from its registry or OCI layout; may take minutes. Cancelling it ends the pull.

        Args:
            reference: with registry, or `oci:FOLDER`.
            plain_http: the registry may be one without TLS.

        Raises:
            ImageError: in the registry's words.
        """
        name = own_name(reference)
        with linked(reference) if name else nullcontext(reference) as source:
            args = ["pull", "--quiet", *(["--tls-verify=false"] if plain_http else []), source]
            code, output, complaint = await self._run(args, timeout_s=None)
        if code != 0:
            raise errors.ImageError(
                f"can't pull {reference}: {_reason(complaint).replace(path_of(source), path_of(reference))}"
            )
        if name:
            await self._output("tag", output.split()[-1], name)
            await self._output("untag", name, f"localhost{path_of(source)}:latest")
        image = await self._inspect(output.split()[-1], reference)
        if image is None:
            raise errors.ImageError(f"{reference} was removed right after it was pulled")
        return image

    # -- containers -------------------------------------------------------------------------------------

    async def ended(self, name: str) -> ContainerEnd | None:
        """How a container ended; None when podman doesn't know it or has no end of it.

        Raises:
            ImageError: podman doesn't answer.
        """
        code, output, _ = await self._run(["container", "inspect", "--format", "{{json .State}}", name])
        if code != 0:
            return None
        state = json.loads(output)
        if state["Status"] not in ("exited", "stopped", "stopping"):
            return None
        return ContainerEnd(
            int(state["ExitCode"]),
            bool(state["OOMKilled"]),
            datetime.fromisoformat(state["FinishedAt"]).astimezone(UTC),
        )

    async def remove(self, name: str) -> None:
        """Removes a container with its anonymous volumes, alive or not; nothing happens when it is gone."""
        for pause_s in _REMOVE_PAUSES_S:
            try:
                await self._output("rm", "--force", "--ignore", "--volumes", "--time=0", name)
                return
            except errors.ImageError as error:
                failure = error
            # Where conmon was killed, podman still takes the container for running the first time.
            await asyncio.sleep(pause_s)
        log.warning("can't remove the container %s: %s", name, failure)

    async def sweep(self, is_wanted: Callable[[Path], bool]) -> None:
        """Removes this yard's containers whose folder isn't wanted any more, and trials of killed daemons.

        Args:
            is_wanted: given the folder of a start, whether something is still to be learnt of it.
        """
        if self.problem:
            return
        for name, labels in await self._labelled(f"{LABEL_YARD}={self.yard}"):
            folder = Path(labels.get(LABEL_FOLDER, "/"))
            if not await asyncio.to_thread(is_wanted, folder):
                log.info("removing the container %s: its pod is gone", name[:12])
                await self.remove(name)
        # Of other yards, too: the next start of that one may never come.
        for name, labels in await self._labelled(LABEL_TRIAL):
            if is_left_behind(labels.get(LABEL_TRIAL, "")):
                log.info("removing the container %s: a killed yard tried podman in it", name[:12])
                await self.remove(name)

    async def _labelled(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """Id and labels of each container with this label; none when podman can't say."""
        try:
            listed = json.loads(
                await self._output("ps", "--all", "--format", "json", "--filter", f"label={label}") or "[]"
            )
        except (errors.ImageError, ValueError) as error:
            log.warning("can't list podman's containers: %s", error)
            return []
        return [(container["Id"], container.get("Labels") or {}) for container in listed]

    # -- calls ------------------------------------------------------------------------------------------

    async def _try(self, args: Sequence[str]) -> tuple[int, str]:
        code, _, complaint = await self._run(args)
        return code, _reason(complaint)

    async def _output(self, *args: str) -> str:
        code, output, complaint = await self._run(args)
        if code != 0:
            raise errors.ImageError(f"podman {args[0]}: {_reason(complaint)}")
        return output

    async def _run(self, args: Sequence[str], timeout_s: float | None = _CALL_S) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command(*args),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=self.environment,
            )
        except OSError as error:
            raise errors.ImageError(
                f"can't start {self._program}: {error.strerror}", remedy=_INSTALL
            ) from error
        try:
            async with asyncio.timeout(timeout_s):
                output, complaint = await process.communicate()
        except TimeoutError as error:
            raise errors.ImageError(f"podman {args[0]} didn't answer within {timeout_s:.0f} s") from error
        finally:
            if process.returncode is None:
                await _end(process)
        assert process.returncode is not None
        return process.returncode, output.decode(errors="replace"), complaint.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    # Politely first: podman holds locks on its storage.
    process.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(_STOP_S):
            await process.wait()
            return
    process.kill()
    await process.wait()


def _repository(reference: str) -> str:
    name = reference.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


def _reason(complaint: str) -> str:
    """The last line of what podman said, without what every line of it begins with."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else "it gave no reason"
