"""The agent's image: the parts of this very gpuyard that a node needs, on a base that the user names."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import gpuyard
from gpuyard import errors
from gpuyard.atomic_files import temporary_folder
from gpuyard.building.request import BuildRequest, ImageSettings, LockUse
from gpuyard.client.apply import find
from gpuyard.client.rest import RestApi
from gpuyard.images.places import Places
from gpuyard.images.reference import ImageReference
from gpuyard.images.registry.settings import RegistrySettings
from gpuyard.kube.objects import DAEMON_SETS, ObjectKey
from gpuyard.tenancy.daemonset import options_of
from gpuyard.tenancy.names import AGENT
from gpuyard.tenancy.options import InstallOptions

#: What `gpuyard.agent` and `gpuyard.agent.labelling` import of ours.
_PACKAGES = ("_proto", "agent", "client", "devices", "gpus", "kube", "tenancy")
_MODULES = (
    "__init__.py",
    "advice.py",
    "atomic_files.py",
    "elf.py",
    "errors.py",
    "http_proxies.py",
    "proxying_transport.py",
    "private_folders.py",
    "regular_files.py",
)
#: And of others, in the versions that are installed here.
_REQUIREMENTS = ("grpcio", "httpx", "nvidia-ml-py", "orjson", "protobuf")
#: It's asked whether a tag still means what is installed, and not waited for.
_ONE_TRY = RegistrySettings(attempts=1, timeout_s=10.0)
_WORKDIR = "/opt/gpuyard/agent"


@contextlib.contextmanager
def agent_build(base: str, tag: str, pulled_as: str | None, gpu_backend: str = "") -> Iterator[BuildRequest]:
    """What makes the image and pushes it; its files are there inside the block.

    Args:
        base: an image with Python 3.11 or later.
        tag: where the image goes.
        pulled_as: the nodes' name of it, when that is another.
        gpu_backend: a Python module for another vendor's GPUs, or its file, to bring along; empty for none.

    Raises:
        UsageError: a name isn't an image's, or there is no such module here.
    """
    module = _source(gpu_backend) if gpu_backend else None
    pull: str | None = None
    if pulled_as:
        reference = ImageReference.parse(pulled_as)
        pull = f"{reference.registry}/{reference.repository}"
    with temporary_folder() as folder:
        root, requirements = folder / "agent", folder / "requirements.txt"
        _copy(root / "gpuyard")
        if module and module.is_dir():
            shutil.copytree(module, root / module.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif module:
            shutil.copy(module, root / module.name)
        requirements.write_text("".join(f"{name}=={version(name)}\n" for name in _REQUIREMENTS))
        yield BuildRequest(
            base=base,
            target=tag,
            root=root,
            requirements=requirements,
            pull_repository=pull,
            image=ImageSettings(workdir=_WORKDIR),
            locking=LockUse(folder / "gpuyard.lock", stays=False),
        )


async def as_installed(api: RestApi, options: InstallOptions, environ: Mapping[str, str]) -> str:
    """The options' image by its digest, where agents run one of its repository by digest.

    `--base` installs them so. A tag in its place would start every agent anew, also when it means the same.

    Args:
        api: of the cluster.
        options: of an install.
        environ: what is said of registries. One that can't be asked from here leaves the name as it is.
    """
    image = options.image
    agent = await find(api, DAEMON_SETS, ObjectKey(options.namespace, AGENT))
    installed = options_of(agent, InstallOptions("")).image if agent else ""
    named = ImageReference.parse(image)
    if named.digest or not installed or not (there := ImageReference.parse(installed)).digest:
        return image
    if named.name != there.name:
        return image
    try:
        async with Places(environ, _ONE_TRY) as places:
            place = await places.open(image)
            found = await place.store.find_manifest(place.target)
    except errors.ImageError:
        return image
    return str(named.pinned(found.digest)) if found else image


def _source(module: str) -> Path:
    """The file of a module, or the folder of the package that it is in."""
    origin: str | None = module
    if not module.endswith(".py"):
        try:
            found = find_spec(module.partition(".")[0])
        except ValueError:
            found = None
        places = list((found and found.submodule_search_locations) or ())
        origin = places[0] if places else found.origin if found else None
    if not origin or not Path(origin).exists():
        raise errors.UsageError(
            f"there is no Python module {module!r} here to bring into the image",
            remedy="name its file, or leave --base out and name an image that has it",
        )
    return Path(origin)


def _copy(folder: Path) -> None:
    source = Path(gpuyard.__file__).parent
    folder.mkdir(parents=True)
    for name in _PACKAGES:
        shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _MODULES:
        shutil.copy(source / name, folder / name)
