"""From a container's manifest to a started container: one way for processes of the host and for images."""

from __future__ import annotations

import asyncio
import base64
import os
import pwd
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpuyard import errors, launcher, launcher_sweep
from gpuyard.kube.objects import CONFIG_MAPS, SECRETS, Manifest, Resource, key_of, uid_of
from gpuyard.kube.quantity import to_int, to_milli
from gpuyard.kube.wellknown import (
    AMD,
    ENV_CUDA_INDEXES,
    ENV_GANG,
    ENV_GPUS,
    ENV_GRACE,
    ENV_IDLE,
    ENV_SIGNAL,
    ENV_SIMULATED,
    ENV_SWEEP,
    ENV_TERMINAL,
    NVIDIA,
)
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.devices.manager import ContainerAllocation
from gpuyard.local.kubelet.environment import (
    Sources,
    command_line,
    compose,
    expand_words,
    own_environment,
    referenced_names,
)
from gpuyard.local.kubelet.host_names import with_addresses
from gpuyard.local.kubelet.pod_folders import PodFolder
from gpuyard.local.kubelet.volumes import ContainerVolumes, container_volumes
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.podman.cdi import CdiEdits, resolve
from gpuyard.local.runtime.podman.host import PodmanImage
from gpuyard.local.runtime.values import DEFAULT_PATH, ContainerSpec, HostDevice, ImageRun, Limits, Mount

_PYTHON = re.compile(r"python(3(\.\d+)?)?")


async def start_container(
    context: KubeletContext,
    pod: Manifest,
    container: Mapping[str, Any],
    attempt: int,
    allocation: ContainerAllocation,
    master_port: int,
    image: PodmanImage | None,
    elsewhere: Mapping[str, Path],
) -> Container:
    """Starts one container of a pod.

    Both kinds of container differ in three things: an image brings its own files, so that CDI has to bring
    what its devices need; it has an environment and a working folder, which the host's processes get here;
    and it brings its own launcher, where it is ours.

    Args:
        context: of the kubelet.
        pod: with its node.
        container: one of its containers.
        attempt: number of this start.
        allocation: its devices.
        master_port: the pod's.
        image: that podman has; None for a process of the host.
        elsewhere: folders of the pod's volumes that aren't its own, by the volume's name.

    Raises:
        ContainerConfigError: a ConfigMap or the like isn't there (yet), or it would run as root and mustn't.
        DeviceError: the node has no CDI spec of a device.
        StartError: it can't be started as it is.
        ProcessError, ImageError: the pod's folder can't be written, podman doesn't work.
    """
    applied = context.runtimes.choose(image=image is not None).applied
    ground = {} if image else base_environment()
    edits = await asyncio.to_thread(_cdi_edits, context, allocation) if image else CdiEdits()
    sources = await _sources_of(context, key_of(pod).namespace, container)
    known = {**ground, **allocation.envs}
    own = own_environment(pod, container, sources, context.node.allocatable_quantities, known)
    values = {} if image else task_values(own)
    environment = compose(ground, allocation.envs, own, master_port, **_what_is_hidden(context))
    # As in a cluster CDI comes last: it says that nothing else is to hand GPUs over.
    environment |= edits.env
    folder = PodFolder(context.pods_dir / uid_of(pod))
    volumes = await _volumes(pod, container, folder, elsewhere, can_mount=applied.mounts)
    plugins = (Mount(Path(m.host_path), m.container_path, m.read_only) for m in allocation.mounts)
    mounts = [*plugins, *edits.mounts, *_hosts_mount(context, pod), *volumes.mounts]
    spec = ContainerSpec(
        name=folder.start_name(container["name"], attempt),
        argv=argv_of(container, environment, values, in_image=image is not None),
        env=environment if applied.mounts else with_addresses(environment, pod),
        working_dir=container.get("workingDir") or ("" if image else "/"),
        devices=_devices(allocation, edits),
        mounts=mounts if applied.mounts else (),
        shm_bytes=0 if volumes.has_shm and volumes.shm_bytes is None else volumes.shm_bytes,
        limits=limits_of(container),
        image=_image_run(pod["spec"], container, image, environment) if image else None,
        held=context.devices.lock_descriptors(allocation),
        **_input(container),
    )
    return await context.runtimes.start(folder.attempt(container["name"], attempt), spec)


async def _volumes(
    pod: Manifest,
    container: Mapping[str, Any],
    folder: PodFolder,
    elsewhere: Mapping[str, Path],
    *,
    can_mount: bool,
) -> ContainerVolumes:
    """What a container mounts; the pod's own folders among it are made."""
    volumes = container_volumes(pod["spec"], container, folder.volumes, elsewhere, can_mount=can_mount)
    for mount in volumes.mounts:
        if mount.host_path.parent == folder.volumes:
            await asyncio.to_thread(folder.make_volume, mount.host_path.name)
    return volumes


def _input(container: Mapping[str, Any]) -> dict[str, bool]:
    """What can be typed into it, as `ContainerSpec` takes it."""
    names = {"stdin": "stdin", "stdin_once": "stdinOnce", "tty": "tty"}
    return {field: bool(container.get(name)) for field, name in names.items()}


def _devices(allocation: ContainerAllocation, edits: CdiEdits) -> list[HostDevice]:
    """Each once; where both name one, CDI says which of the host's it is."""
    given = (HostDevice(device.host_path, device.container_path) for device in allocation.devices)
    return list({device.container_path: device for device in (*given, *edits.devices)}.values())


def _what_is_hidden(context: KubeletContext) -> dict[str, bool]:
    """Whose GPUs a container that wasn't given any might see, as `compose` takes it."""
    makers = {name.partition("/")[0] for name in context.devices.resources()}
    # Those that the yard doesn't give out, too, as beside simulated ones.
    has_nvidia = NVIDIA in makers or Path("/dev/nvidiactl").exists()
    return {"hides_nvidia": has_nvidia, "hides_amd": AMD in makers}


def _hosts_mount(context: KubeletContext, pod: Manifest) -> list[Mount]:
    file = context.host_names.hosts_file(pod)
    return [Mount(file, "/etc/hosts", True)] if file and Path("/etc/hosts").exists() else []


def argv_of(
    container: Mapping[str, Any],
    environment: Mapping[str, str],
    values: dict[str, str],
    *,
    in_image: bool,
) -> list[str]:
    """Of a process all words, with the values of its task; of an image what follows its entry point."""
    if in_image:
        return expand_words(container.get("args") or (), environment)
    words = command_line(container, environment)
    if values:
        words = [launcher_sweep.filled(word, values) for word in words]
    return through_launcher(words, environment)


def task_values(own: dict[str, str]) -> dict[str, str]:
    """The values of a sweep's task, which take the place of the sweep in its environment; else none.

    The launcher does it in images. For a process of the host it costs no Python of its own to be done here.

    Raises:
        StartError: there are no such values.
    """
    if ENV_SWEEP not in own:
        return {}
    try:
        values = launcher_sweep.values_of(own)
    except ValueError as error:
        raise errors.StartError(
            str(error), code=launcher_sweep.EXIT_USAGE, remedy="leave these variables to `gpuyard run`"
        ) from error
    del own[ENV_SWEEP]
    own |= values
    return values


def _cdi_edits(context: KubeletContext, allocation: ContainerAllocation) -> CdiEdits:
    return resolve(context.cdi_dir, allocation.cdi_devices)


def base_environment() -> dict[str, str]:
    """What a process has before anybody says anything; nothing of the daemon's own."""
    base = {"PATH": DEFAULT_PATH, "HOME": "/"}
    try:
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return base
    return {**base, "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}


def through_launcher(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The command, with the launcher before it when the run has several pods, says how it is to be ended,
    or asked for GPUs and has real ones.

    Simulated ones aren't looked for, but they are numbered by the launcher where the run asks for numbers.
    The launcher runs in the Python whose torch the command would import: the command's own interpreter, else
    the first python3 of the process's PATH. Where there is none, nothing is checked.
    """
    asked = environment.get(ENV_GPUS, "")
    checks_gpus = asked.isdigit() and bool(int(asked))
    if ENV_SIMULATED in environment and ENV_CUDA_INDEXES not in environment:
        checks_gpus = False
    if not checks_gpus and environment.keys().isdisjoint(
        (ENV_GANG, ENV_GRACE, ENV_IDLE, ENV_SIGNAL, ENV_TERMINAL)
    ):
        return list(argv)
    if _PYTHON.fullmatch(os.path.basename(argv[0])):  # noqa: PTH119 - a word of a command line
        python: str | None = argv[0]
    else:
        python = shutil.which("python3", path=environment.get("PATH", os.defpath))
    return [python, launcher.__file__, *argv] if python else list(argv)


def device_requests(container: Mapping[str, Any]) -> dict[str, int]:
    """Extended resources in a container's limits: those that device plugins serve."""
    limits = (container.get("resources") or {}).get("limits") or {}
    return {name: to_int(amount) for name, amount in limits.items() if "/" in name}


def limits_of(container: Mapping[str, Any]) -> Limits:
    """Of CPU and memory, as the manifest has them."""
    limits = (container.get("resources") or {}).get("limits") or {}
    # As in Kubernetes zero is no limit.
    return Limits(
        cpu_milli=to_milli(limits.get("cpu", "0")) or None,
        memory_bytes=to_int(limits.get("memory", "0")) or None,
    )


async def _sources_of(context: KubeletContext, namespace: str, container: Mapping[str, Any]) -> Sources:
    """The ConfigMaps and Secrets that a container's environment refers to."""
    config_maps, secrets = referenced_names(container)
    return Sources(
        {name: await _data(context, CONFIG_MAPS, name, namespace) for name in config_maps},
        {name: await _data(context, SECRETS, name, namespace) for name in secrets},
    )


async def _data(
    context: KubeletContext, resource: Resource, name: str, namespace: str
) -> Mapping[str, str] | None:
    try:
        found = await context.api.get(resource, name, namespace)
    except errors.NotFound:
        return None
    data: Mapping[str, str] = found.get("data") or {}
    if resource != SECRETS:
        return data
    # An environment is bytes: what is no UTF-8 comes out as it went in.
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in data.items()}


def _image_run(
    pod_spec: Mapping[str, Any],
    container: Mapping[str, Any],
    image: PodmanImage,
    environment: Mapping[str, str],
) -> ImageRun:
    command = tuple(expand_words(container.get("command") or (), environment))
    context = container.get("securityContext") or {}
    pod_context = pod_spec.get("securityContext") or {}
    capabilities = context.get("capabilities") or {}
    groups = [pod_context.get("fsGroup"), *(pod_context.get("supplementalGroups") or ())]
    seccomp = context.get("seccompProfile") or pod_context.get("seccompProfile") or {}
    return ImageRun(
        image_id=image.id,
        entrypoint=command or None,
        user=_user(pod_spec, container, image),
        groups=tuple(dict.fromkeys(group for group in groups if group is not None)),
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        no_new_privileges=context.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(context.get("readOnlyRootFilesystem")),
        unconfined=seccomp.get("type") == "Unconfined",
    )


def _user(pod_spec: Mapping[str, Any], container: Mapping[str, Any], image: PodmanImage) -> str:
    """UID and GID for podman; empty for the image's own.

    Raises:
        ContainerConfigError: as kubelets refuse root where runAsNonRoot is set, in their words.
    """
    context = {**(pod_spec.get("securityContext") or {}), **_given(container.get("securityContext"))}
    uid, gid = context.get("runAsUser"), context.get("runAsGroup")
    if context.get("runAsNonRoot"):
        name = image.user.partition(":")[0]
        if uid == 0:
            raise _refused("container's runAsUser breaks non-root policy", container)
        if uid is None and name in ("", "0", "root"):
            raise _refused("container has runAsNonRoot and image will run as root", container)
        if uid is None and not name.isdecimal():
            raise _refused(
                f"container has runAsNonRoot and image has non-numeric user ({name}), "
                "cannot verify user is non-root",
                container,
            )
    if uid is None and gid is None:
        return ""
    user = str(image.user.partition(":")[0] or 0) if uid is None else str(uid)
    return user if gid is None else f"{user}:{gid}"


def _given(context: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (context or {}).items() if value is not None}


def _refused(why: str, container: Mapping[str, Any]) -> errors.ContainerConfigError:
    return errors.ContainerConfigError(
        f"{why} (container: {container['name']})", remedy="set securityContext.runAsUser to a user's number"
    )
