"""What is read of a node's files, over files that are made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard.agent.container_runtimes import find_exposure
from gpuyard.gpus.exposure import Exposure

CONTAINERD = "etc/containerd/config.toml"
TOOLKIT = "etc/nvidia-container-runtime/config.toml"
V2, V3 = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
NVIDIA_PROGRAM = 'BinaryName = "/usr/local/nvidia/toolkit/nvidia-container-runtime"'


def default(name: str, plugin: str = V3) -> str:
    return f"[plugins.'{plugin}'.containerd]\ndefault_runtime_name = \"{name}\"\n"


def program(name: str, text: str, plugin: str = V3) -> str:
    return f"[plugins.'{plugin}'.containerd.runtimes.{name}.options]\n{text}\n"


#: Files of the node → whether its default runtime is NVIDIA's.
RUNTIMES: dict[str, tuple[dict[str, str], bool | None]] = {
    "nothing": ({}, None),
    "runc": ({CONTAINERD: default("runc")}, False),
    "runc-unsaid": ({CONTAINERD: 'version = 3\n[plugins."a"]\nb = 1\n'}, False),
    "nvidia": ({CONTAINERD: default("nvidia")}, True),
    "nvidia-by-version-2": ({CONTAINERD: default("nvidia", V2)}, True),
    "nvidia-by-another-name": ({CONTAINERD: default("fast") + program("fast", NVIDIA_PROGRAM)}, True),
    "runc-in-its-place": ({CONTAINERD: program("runc", NVIDIA_PROGRAM)}, True),
    "nvidia-beside": ({CONTAINERD: default("runc") + program("nvidia", NVIDIA_PROGRAM)}, False),
    "imported": (
        {
            CONTAINERD: 'imports = ["/etc/containerd/conf.d/*.toml"]\n' + default("runc"),
            "etc/containerd/conf.d/99-nvidia.toml": default("nvidia"),
        },
        True,
    ),
    "imported-by-a-relative-name": (
        {CONTAINERD: 'imports = ["conf.d/99.toml"]\n', "etc/containerd/conf.d/99.toml": default("nvidia")},
        True,
    ),
    "not-imported": (
        {CONTAINERD: default("runc"), "etc/containerd/conf.d/99-nvidia.toml": default("nvidia")},
        False,
    ),
    "k3s": ({"var/lib/rancher/k3s/agent/etc/containerd/config.toml": default("nvidia", V2)}, True),
    "crio": ({"etc/crio/crio.conf": '[crio.runtime]\ndefault_runtime = "crun"\n'}, False),
    "crio-drop-in": (
        {
            "etc/crio/crio.conf": '[crio.runtime]\ndefault_runtime = "crun"\n',
            "etc/crio/crio.conf.d/99-nvidia.conf": '[crio.runtime]\ndefault_runtime = "nvidia"\n',
        },
        True,
    ),
    "crio-by-another-name": (
        {
            "etc/crio/crio.conf.d/a": '[crio.runtime]\ndefault_runtime = "b"\n[crio.runtime.runtimes.b]\n'
            'runtime_path = "/usr/bin/nvidia-container-runtime"\n'
        },
        True,
    ),
    "hook": ({"usr/share/containers/oci/hooks.d/oci-nvidia-hook.json": "{}"}, True),
    "broken": ({CONTAINERD: "version = "}, None),
    "no-tables": ({CONTAINERD: "plugins = 3\nimports = 4\n"}, False),
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_default_runtime(tmp_path: Path, name: str) -> None:
    files, expected = RUNTIMES[name]
    write(tmp_path, files)
    assert find_exposure(tmp_path) == Exposure(expected, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("accept-nvidia-visible-devices-envvar-when-unprivileged = true", True),
        ("accept-nvidia-visible-devices-envvar-when-unprivileged = false", False),
        ("#accept-nvidia-visible-devices-envvar-when-unprivileged = false", True),
    ],
)
def test_the_toolkit(tmp_path: Path, text: str, expected: bool) -> None:
    write(tmp_path, {TOOLKIT: f"{text}\n[nvidia-container-cli]\nroot = '/'\n"})
    assert find_exposure(tmp_path) == Exposure(None, expected)


def test_of_two_toolkits_the_open_one_counts(tmp_path: Path) -> None:
    closed = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n"
    operators = "usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml"
    write(tmp_path, {TOOLKIT: closed, operators: ""})
    assert find_exposure(tmp_path).variable is True
    write(tmp_path, {operators: closed})
    assert find_exposure(tmp_path).variable is False


@pytest.mark.parametrize("name", ["/", "//etc/x.toml", "", "/etc/**x", "/etc/\\u0000", "/[", "~", "../../.."])
def test_imports_that_name_no_file(tmp_path: Path, name: str) -> None:
    write(tmp_path, {CONTAINERD: f'imports = ["{name}"]\n' + default("nvidia")})
    assert find_exposure(tmp_path).default_runtime is True


def test_imports_are_no_deeper_than_containerd_looks(tmp_path: Path) -> None:
    deep = {"etc/a/b/c.toml": default("nvidia")}
    write(tmp_path, {CONTAINERD: 'imports = ["/etc/**/*.toml"]\n' + default("runc"), **deep})
    assert find_exposure(tmp_path).default_runtime is False


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / CONTAINERD).mkdir(parents=True)
    (tmp_path / TOOLKIT).parent.mkdir(parents=True)
    os.mkfifo(tmp_path / TOOLKIT)
    assert find_exposure(tmp_path) == Exposure()
