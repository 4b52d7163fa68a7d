"""The command line of `podman run` for one container (pure). Source: podman-run(1), 4.0 and later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.local.runtime.values import ENV_CONTAINER, ContainerSpec, ImageRun, Mount

#: On every container of ours: the yard that it belongs to, and the folder of its start.
LABEL_YARD = "io.gpuyard.yard"
LABEL_FOLDER = "io.gpuyard.folder"

#: Files in the folder of a start.
ENV_FILE = "env"
CONMON_PID = "conmon.pid"
INIT_PID = "init.pid"

_LONGEST_LINE = 32 * 1024
_CPU_PERIOD_US = 100_000


@dataclass(frozen=True)
class SplitEnvironment:
    """A container's environment by the way that podman is given it: command lines are public.

    Attributes:
        file: text of an env file, which podman reads line by line.
        inherited: what no line can hold, for podman's own environment.
        arguments: the rest: names that podman's own environment has too, or that no variable should have.
    """

    file: str
    inherited: Mapping[str, str]
    arguments: Mapping[str, str]


def split_environment(env: Mapping[str, str], own: Mapping[str, str]) -> SplitEnvironment:
    """Sorts a container's environment; `own` is podman's."""
    lines = {name: value for name, value in env.items() if _is_a_line(name, value)}
    rest = {name: value for name, value in env.items() if name not in lines}
    # A name that ends in * would make podman hand down all of its own variables that begin so.
    inherited = {name: value for name, value in rest.items() if name.isidentifier() and name not in own}
    return SplitEnvironment(
        "".join(f"{name}={value}\n" for name, value in lines.items()),
        inherited,
        {name: value for name, value in rest.items() if name not in inherited},
    )


def _is_a_line(name: str, value: str) -> bool:
    """Whether every podman reads it alike: releases differ on quotes, comments and the longest line."""
    if not name.isidentifier() or len(value) > _LONGEST_LINE or value != value.strip():
        return False
    return not any(character in "\"'`#\\" or not character.isprintable() for character in value)


def run_args(
    spec: ContainerSpec,
    folder: Path,
    *,
    yard: str,
    flags: Sequence[str],
    environment: SplitEnvironment,
    limits: bool,
) -> list[str]:
    """What follows `podman`: a container that is its own, detached, with its output where podman's is.

    Args:
        spec: with an image.
        folder: of the start.
        yard: its name, for the label.
        flags: that this host needs.
        environment: of the spec.
        limits: whether this host can enforce limits of CPU and memory.
    """
    image = spec.image
    assert image is not None
    args = ["run", "--detach", "--replace", "--name", spec.name, "--pull=never", *flags]
    args += ["--label", f"{LABEL_YARD}={yard}", "--label", f"{LABEL_FOLDER}={folder}"]
    # The container writes to our log file itself: nothing between them can lose a line or hold one back.
    args += ["--log-driver=passthrough"]
    if spec.stdin:
        args.append("--interactive")
    args += ["--conmon-pidfile", str(folder / CONMON_PID), "--pidfile", str(folder / INIT_PID)]
    args += ["--network=host", "--http-proxy=false", "--sdnotify=ignore", "--no-healthcheck"]
    args += ["--env-file", str(folder / ENV_FILE), "--env", f"{ENV_CONTAINER}={spec.name}"]
    for name in environment.inherited:
        args += ["--env", name]
    for name, value in environment.arguments.items():
        args += ["--env", f"{name}={value}"]
    if spec.working_dir:
        args += ["--workdir", spec.working_dir]
    if spec.shm_bytes is not None:
        args += ["--shm-size", f"{spec.shm_bytes}b" if spec.shm_bytes else "0"]
    for device in spec.devices:
        args += ["--device", f"{device.host_path}:{device.container_path}:rw"]
    for mount in spec.mounts:
        args += _mount(mount)
    if limits:
        args += _limits(spec)
    args += _security(image)
    if image.entrypoint is not None:
        args += ["--entrypoint", json.dumps(image.entrypoint)]
    return [*args, image.image_id, *spec.argv]


def _mount(mount: Mount) -> list[str]:
    """Releases of podman differ on how a comma in a value of --mount is written; --volume parts by colons.

    Raises:
        StartError: a path with both.
    """
    source, target = str(mount.host_path), mount.container_path
    if not {",", '"'} & set(source + target):
        options = (*(["readonly"] if mount.read_only else []), *mount.options)
        return ["--mount", ",".join((f"type=bind,source={source},target={target}", *options))]
    if ":" in source + target:
        raise errors.StartError(
            f"podman can't mount {source} at {target}: a path has both a colon and a comma or quote",
            remedy="mount it at, or keep it in, a folder with a plainer name",
        )
    options = ("ro" if mount.read_only else "rw", *mount.options)
    return ["--volume", f"{source}:{target}:{','.join(options)}"]


def _limits(spec: ContainerSpec) -> list[str]:
    args = []
    if spec.limits.cpu_milli is not None:
        quota_us = max(spec.limits.cpu_milli * _CPU_PERIOD_US // 1000, 1000)
        args += ["--cpu-period", str(_CPU_PERIOD_US), "--cpu-quota", str(quota_us)]
    if spec.limits.memory_bytes is not None:
        args += ["--memory", f"{spec.limits.memory_bytes}b"]
    return args


def _security(image: ImageRun) -> list[str]:
    # SELinux would keep containers from our log file and volumes, which carry the user's own label.
    args = ["--security-opt", "label=disable"]
    if image.no_new_privileges:
        args += ["--security-opt", "no-new-privileges"]
    if image.unconfined:
        args += ["--security-opt", "seccomp=unconfined"]
    if image.read_only_root:
        args += ["--read-only", "--read-only-tmpfs=false"]
    if image.user:
        args += ["--user", image.user]
    for group in image.groups:
        args += ["--group-add", str(group)]
    for option, names in (("--cap-drop", image.drop_capabilities), ("--cap-add", image.add_capabilities)):
        for name in names:
            args += [option, name]
    return args
