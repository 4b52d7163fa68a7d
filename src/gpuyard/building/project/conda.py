"""conda's environment.yml as requirements of wheels: what an index has of it, and what it hasn't.

conda's packages aren't installed: builds, channels and libraries that aren't Python's have no counterpart.
Sources: conda's documentation, "Managing environments"; conda/models/match_spec.py; names of conda-forge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.images.contents.contents import normalise
from gpuyard.regular_files import read_regular

#: Where the index has another name, of packages that people train with.
_NAMES = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "pytorch-lightning": "pytorch-lightning",
    "matplotlib-base": "matplotlib",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "libopencv": "",
    "msgpack-python": "msgpack",
    "python-graphviz": "graphviz",
    "pytables": "tables",
    "tensorflow-gpu": "tensorflow",
    "python-dateutil": "python-dateutil",
    "faiss": "faiss-cpu",
    "jupyterlab": "jupyterlab",
    "tensorboard": "tensorboard",
    "huggingface_hub": "huggingface-hub",
    "torchtriton": "triton",
    "pandas-profiling": "ydata-profiling",
    "seaborn-base": "seaborn",
    "dask-core": "dask",
    "importlib_metadata": "importlib-metadata",
    "typing_extensions": "typing-extensions",
}
#: No Python packages: compilers, CUDA, libraries, programs.
_NOT_PYTHON = re.compile(
    r"python|pip|cudatoolkit(?:-dev)?|pytorch-cuda|pytorch-mutex|cuda(?:-.*)?|cudnn|nccl|cutensor|nvidia-.*|lib.*|_.*"
    r"|gcc(?:_.*|-.*)?|gxx(?:_.*|-.*)?|g\+\+|clang.*|binutils.*|make|cmake|ninja|pkg-config|compilers|c-compiler"
    r"|cxx-compiler|fortran-compiler|sysroot_.*|mkl(?:-devel)?|blas|openblas|openmpi|mpich|mpi|ffmpeg|git|git-lfs|nodejs"
    r"|openssl|ca-certificates|zlib|bzip2|xz|sqlite|readline|ncurses|tk|faiss-gpu|rust|go|openjdk|graphviz|pandoc"
)
_SPEC = re.compile(
    r"(?:[^:\s]+::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?P<version>[=<>!~\d*][^\[]*)?(?:\[.*\])?"
)


@dataclass(frozen=True)
class CondaEnvironment:
    """What an environment.yml comes to.

    Attributes:
        lines: of a requirements file: its conda packages that an index has, and its pip section.
        left: what isn't taken, as written.
        python: what it wants of Python, as a specifier; empty for any.
    """

    lines: tuple[str, ...]
    left: tuple[str, ...]
    python: str


def read_environment(path: Path) -> CondaEnvironment:
    """Reads it.

    Raises:
        UsageError: it can't be read, or isn't an environment.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        raw = YAML(typ="safe", pure=True).load(read_regular(path).decode("utf-8"))
    except OSError as error:
        raise errors.UsageError(
            f"can't read the requirements {path}: {error.strerror}", remedy="name a file that is there"
        ) from error
    except (YAMLError, UnicodeDecodeError, ValueError) as error:
        raise errors.UsageError(f"can't read {path}: {error}", remedy="mend the file") from error
    found = raw.get("dependencies") if isinstance(raw, dict) else None
    if not isinstance(found, list):
        raise errors.UsageError(
            f"{path} isn't a conda environment: it has no list of dependencies",
            remedy="name a requirements file, a lock, or an environment.yml",
        )
    lines: list[str] = []
    left: list[str] = []
    python = ""
    for item in found:
        if isinstance(item, dict):
            lines += _pip_section(path, item)
            continue
        match = _SPEC.fullmatch(str(item).strip())
        if match is None:
            raise errors.UsageError(
                f"{path} has a dependency that can't be read: {item}", remedy="mend the file"
            )
        name, version = match["name"].lower(), _specifier(match["version"] or "")
        if name == "python":
            python = version
        elif name == "pip":
            pass
        elif not (own := _NAMES.get(name, name)) or _NOT_PYTHON.fullmatch(name):
            left.append(str(item))
        else:
            lines.append(f"{normalise(own)}{version}")
    return CondaEnvironment(tuple(lines), tuple(left), python)


def _pip_section(path: Path, item: dict[Any, Any]) -> list[str]:
    found = item.get("pip")
    if list(item) != ["pip"] or not isinstance(found, list):
        raise errors.UsageError(f"{path} has a dependency that can't be read: {item}", remedy="mend the file")
    return [str(line) for line in found]


def _specifier(text: str) -> str:
    """conda's version as PEP 440 writes it; its builds (`=1.0=py311_0`) have no counterpart."""
    text = text.strip()
    if not text or text == "*":
        return ""
    if match := re.fullmatch(r"(={0,2})\s*([\w.+!*]+)(?:\s*=\s*|\s+)[\w*.]+", text):
        text = f"=={match[2]}"
    if match := re.fullmatch(r"=\s*([\w.+!]+?)(?:\.?\*)?", text):
        return f"=={match[1]}.*"
    if re.match(r"\d", text):
        return f"=={text}"
    return re.sub(r"\s+", "", text)
