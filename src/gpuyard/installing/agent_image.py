"""The agent's image: the parts of this very gpuyard that a node needs, on a base that the user names."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import gpuyard
from gpuyard.building.build import BuildRequest
from gpuyard.images.reference import ImageReference

#: What `gpuyard.agent` and `gpuyard.agent.labelling` import of ours.
_PACKAGES = ("_proto", "agent", "client", "devices", "gpus", "kube", "tenancy")
_MODULES = ("__init__.py", "advice.py", "atomic_files.py", "errors.py", "regular_files.py")
#: And of others, in the versions that are installed here.
_REQUIREMENTS = ("grpcio", "httpx", "nvidia-ml-py", "orjson", "protobuf")
_WORKDIR = "/opt/gpuyard/agent"


@contextlib.contextmanager
def agent_build(base: str, tag: str, pulled_as: str | None) -> Iterator[BuildRequest]:
    """What makes the image and pushes it; its files are there inside the block.

    Args:
        base: an image with Python 3.11 or later.
        tag: where the image goes.
        pulled_as: the nodes' name of it, when that is another.

    Raises:
        UsageError: a name isn't an image's.
    """
    pull: str | None = None
    if pulled_as:
        reference = ImageReference.parse(pulled_as)
        pull = f"{reference.registry}/{reference.repository}"
    with tempfile.TemporaryDirectory(prefix="gpuyard-agent-") as folder:
        root, requirements = Path(folder, "agent"), Path(folder, "requirements.txt")
        _copy(root / "gpuyard")
        requirements.write_text("".join(f"{name}=={version(name)}\n" for name in _REQUIREMENTS))
        yield BuildRequest(
            base=base,
            target=tag,
            root=root,
            requirements=requirements,
            lock=Path(folder, "gpuyard.lock"),
            workdir=_WORKDIR,
            pull_repository=pull,
        )


def _copy(folder: Path) -> None:
    source = Path(gpuyard.__file__).parent
    folder.mkdir(parents=True)
    for name in _PACKAGES:
        shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _MODULES:
        shutil.copy(source / name, folder / name)
