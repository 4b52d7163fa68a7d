"""What a container of a built image starts: the launcher, and what is kept of the base's ENTRYPOINT and CMD.

A wrapper prepares the environment and ends in `exec "$@"`. One is kept, before the launcher: NVIDIA's
/opt/nvidia/nvidia_entrypoint.sh, which runs /opt/nvidia/entrypoint.d/*.sh (checks, and the banner) in a bash
whose BASH_ENV is /etc/shinit_v2. That puts CUDA's forward compatibility, and in later images TensorRT's
libraries, on LD_LIBRARY_PATH; bypassed, `import tensorrt` fails. It leaves PATH alone. Others don't:
micromamba's _entrypoint.sh and `conda run` put their own environment first, and `python` would be another
than the image's; start.sh of Jupyter changes users. A small init (`tini -g --`, `dumb-init`) does what the
launcher does. All else (`python3 -m vllm.entrypoints.openai.api_server`, `/bin/sh -c`) is a program, to
which a command of ours would be an argument; CMD holds its arguments then, and goes with it.

Sources: NVIDIA/free-threaded-python docker/entrypoint.d; mamba-org/micromamba-docker; jupyter/docker-stacks
images/docker-stacks-foundation/Dockerfile; vllm-project/vllm docker/Dockerfile.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from gpuyard.building.environment import ENTRYPOINT
from gpuyard.images.oci import ContainerConfig

_WRAPPERS = frozenset({"nvidia_entrypoint.sh"})
_INITS = frozenset({"tini", "tini-static", "dumb-init", "catatonit", "docker-init"})


@dataclass(frozen=True)
class EntryPoint:
    """How a container of an image starts.

    Attributes:
        entrypoint, cmd: as the config has them.
        wrapper: what of the base's entry point comes before the launcher.
        left_out: what became of the base's own, in a line; empty where nothing is lost.
    """

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    wrapper: tuple[str, ...] = ()
    left_out: str = ""


def entry_point(base: ContainerConfig, command: Sequence[str]) -> EntryPoint:
    """Decides it.

    Args:
        base: the config of what the image stands on.
        command: what a container starts when it is told nothing; empty for the base's own.
    """
    own = base.entrypoint
    if own[-len(ENTRYPOINT) :] == ENTRYPOINT:  # a base of ours
        own = own[: -len(ENTRYPOINT)]
    own = _without_init(own)
    is_wrapper = len(own) == 1 and own[0].rpartition("/")[2] in _WRAPPERS
    if not own or is_wrapper:
        return EntryPoint((*own, *ENTRYPOINT), tuple(command) or base.cmd or ("python",), own)
    words = f"the base's entry point `{shlex.join(own)}`"
    if base.cmd and not command:
        words += f" and its arguments `{shlex.join(base.cmd)}` are"
    else:
        words += " is"
    words += " not the image's: gpuyard's launcher takes its place"
    if not command:
        words += ", and starts `python` when it is told nothing; name a command with `run` in a spec (-f)"
    return EntryPoint(ENTRYPOINT, tuple(command) or ("python",), left_out=words)


def _without_init(words: tuple[str, ...]) -> tuple[str, ...]:
    """What a small init would start: it signals and reaps, which is the launcher's part."""
    if not words or words[0].rpartition("/")[2] not in _INITS:
        return words
    if "--" in words:
        return words[words.index("--") + 1 :]
    rest = words[1:]
    while rest and rest[0].startswith("-"):
        rest = rest[1:]
    return rest
