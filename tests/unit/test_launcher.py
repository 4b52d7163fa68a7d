"""The launcher as a process: a libcuda made for the test, device nodes and packages that are only names."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gpuyard import launcher, launcher_gpus

_STUB = r"""
#include <fcntl.h>
#include <stdlib.h>
static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}
int cuInit(unsigned flags) { open("/dev/null", O_RDONLY); return number("STUB_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = number("STUB_VERSION", 12040); return 0; }
int cuDeviceGetCount(int *count) { *count = number("STUB_COUNT", 0); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetUuid(unsigned char *uuid, int device) {
    /* What is visible is all only without CUDA_VISIBLE_DEVICES, and numbered so only in this order. */
    if (getenv("CUDA_VISIBLE_DEVICES") || !getenv("CUDA_DEVICE_ORDER")) return 1;
    for (int i = 0; i < 16; i++) uuid[i] = 0x10 * device + i % 10;
    return 0;
}
"""
_START = "import sys; sys.path.insert(0, {folder!r}); import launcher; sys.argv[0] = 'launcher.py'; " \
    "sys.path[:0] = {packages!r}; sys.exit(launcher.main(sys.argv, {dev!r}))"  # fmt: skip
_PRINT = (sys.executable, "-c", "print('trained')")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1, which says what STUB_* variables tell it."""
    folder = tmp_path_factory.mktemp("driver")
    source = folder / "stub.c"
    source.write_text(_STUB)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)
    return folder


@dataclass
class Node:
    """What a process finds there."""

    folder: Path
    driver: Path | None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def dev(self) -> Path:
        return self.folder / "dev"

    @property
    def packages(self) -> Path:
        return self.folder / "site-packages"

    def install(self, *names: str, cuda: str | None = None) -> None:
        for name in names:
            (self.packages / name).mkdir(parents=True)
        if cuda is not None:
            (self.packages / "torch").mkdir()
            text = f"__version__ = '2.8.0'\ndebug = False\ncuda: Optional[str] = {cuda}\ngit_version = 'x'\n"
            (self.packages / "torch" / "version.py").write_text(text)

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, **more: object
    ) -> subprocess.CompletedProcess[str]:
        start = _START.format(
            folder=str(Path(launcher.__file__).parent), packages=[str(self.packages)], dev=str(self.dev)
        )
        paths = {"LD_LIBRARY_PATH": str(self.driver)} if self.driver else {}
        return subprocess.run(
            [sys.executable, "-c", start, *(command or _PRINT)],
            env={"PATH": os.environ["PATH"], **paths, **self.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def node(tmp_path: Path, driver: Path) -> Node:
    """A node with two GPUs; the run asked for both."""
    made = Node(tmp_path, driver, {"GPUYARD_GPUS": "2", "STUB_COUNT": "2"})
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (made.dev / name).mkdir(parents=True)
    made.packages.mkdir()
    return made


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (launcher.EXIT_UNFIT, ""), done
    first, _, last = done.stderr.strip().partition("\n")
    assert last == "gpuyard: GPU check failed; set GPUYARD_ALLOW_CPU=1 for a run that may go on without"
    return first.removeprefix("gpuyard: this run asked for 2 GPUs, and ")


def test_old_pythons_can_read_it() -> None:
    """Images of CUDA 10 and 11 come with Python 3.6; only a newer one is here to try."""
    text = Path(launcher.__file__).read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    assert "from __future__" not in text
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for annotation in (function.returns, *(a.annotation for a in function.args.args)):
            plain = isinstance(annotation, ast.Name) and annotation.id in ("str", "int", "bool", "object")
            assert plain or isinstance(annotation, ast.Constant), ast.dump(function.args)


@pytest.mark.parametrize(
    ("folders", "before", "after"),
    [(".", "", "{cwd}"), ("src:.", "/a:/b", "{cwd}/src:{cwd}:/a:/b"), ("../x", "/a", "{up}/x:/a")],
)
def test_folders_before_those_of_the_path(tmp_path: Path, folders: str, before: str, after: str) -> None:
    show = "import os; print(os.environ['PYTHONPATH'])"
    done = subprocess.run(
        [sys.executable, launcher.__file__, "--pythonpath", folders, "--", sys.executable, "-c", show],
        env={"PYTHONPATH": before} if before else {},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == after.format(cwd=tmp_path, up=tmp_path.parent)


def test_gpus_that_are_there(node: Node) -> None:
    node.install("torch-2.8.0+cu128.dist-info")
    done = node.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "trained\n", "")


@pytest.mark.parametrize("asked", ["", "0", "many"])
def test_a_run_without_gpus_is_not_checked(node: Node, asked: str) -> None:
    node.driver = None
    assert node.run(env={"GPUYARD_GPUS": asked}).stdout == "trained\n"


def test_simulated_gpus_satisfy_everything(tmp_path: Path) -> None:
    bare = Node(tmp_path, None, {"GPUYARD_GPUS": "8", "GPUYARD_SIMULATED": "1"})
    done = bare.run()
    assert (done.stdout, done.stderr) == ("trained\n", "")


@pytest.fixture
def amd(tmp_path: Path) -> Node:
    """A node with two of AMD's GPUs; the run asked for both."""
    made = Node(tmp_path, None, {"GPUYARD_GPUS": "2"})
    (made.dev / "dri").mkdir(parents=True)
    for name in ("kfd", "dri/card0", "dri/card1", "dri/renderD128", "dri/renderD129"):
        (made.dev / name).touch()
    made.packages.mkdir()
    return made


@pytest.mark.parametrize("visible", ["", "0,1"])
@pytest.mark.parametrize(
    ("torch", "hip"), [("torch-2.9.0.dist-info", "'6.4.43482'"), ("torch-2.9.0+rocm6.4.dist-info", None)]
)
def test_amds_gpus_that_are_there(amd: Node, visible: str, torch: str, hip: str | None) -> None:
    amd.install(torch, cuda="None\nhip: Optional[str] = " + hip if hip else None)
    assert amd.run(env={"HIP_VISIBLE_DEVICES": visible}).stdout == "trained\n"


def test_amds_gpus_that_are_lacking_or_closed(amd: Node) -> None:
    (amd.dev / "dri/renderD129").unlink()
    assert f"it can open {amd.dev}/dri/renderD128, {amd.dev}/kfd" in refused(amd.run())
    (amd.dev / "kfd").unlink()
    assert "it needs /dev/kfd" in refused(amd.run(env={"HIP_VISIBLE_DEVICES": "0,1"}))


@pytest.mark.parametrize("torch", ["torch-2.9.0+cu128.dist-info", "torch-2.9.0+cpu.dist-info"])
def test_a_torch_that_is_not_for_amds_gpus(amd: Node, torch: str) -> None:
    amd.install(torch)
    assert "install a ROCm build" in refused(amd.run())


def test_a_run_with_nvidias_gpus_is_asked_of_cuda_beside_amds(node: Node) -> None:
    (node.dev / "kfd").touch()
    assert node.run(env={"CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}).stdout == "trained\n"
    assert "AMD" in refused(node.run(env={"HIP_VISIBLE_DEVICES": "0,1", "CUDA_VISIBLE_DEVICES": ""}))


def test_no_device_nodes(node: Node) -> None:
    for path in node.dev.iterdir():
        path.rmdir()
    assert refused(node.run(env={"NVIDIA_VISIBLE_DEVICES": "void"})) == (
        "no GPU's device node is there: the container runtime didn't bring any in "
        "(NVIDIA_VISIBLE_DEVICES=void); set the pod's runtimeClassName to nvidia, or see to the node's "
        "container toolkit"
    )


def test_no_libcuda(node: Node, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("not a library")
    node.driver = tmp_path
    assert refused(node.run()).startswith("the driver's library can't be loaded (")


def test_fewer_than_asked_for(node: Node) -> None:
    env = {"STUB_COUNT": "1", "CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "all"}
    assert refused(node.run(env=env)) == (
        "CUDA sees only 1 (NVIDIA_VISIBLE_DEVICES=all, CUDA_VISIBLE_DEVICES=0)"
    )


def test_one_mig_instance_is_what_cuda_shows(node: Node) -> None:
    for name in ("nvidia-cap1", "nvidia-cap2"):
        (node.dev / "nvidia-caps" / name).mkdir(parents=True)
    assert refused(node.run(env={"STUB_COUNT": "1"}))
    (node.dev / "nvidia-caps" / "nvidia-cap21").mkdir()
    assert node.run(env={"STUB_COUNT": "1"}).stdout == "trained\n"


@pytest.mark.parametrize(
    ("code", "text"),
    [(34, "stub"), (100, "CUDA_VISIBLE_DEVICES"), (802, "fabricmanager"), (803, "reboot"), (804, "compat"),
     (999, "CUresult")],
)  # fmt: skip
def test_a_driver_that_doesnt_start(node: Node, code: int, text: str) -> None:
    reason = refused(node.run(env={"STUB_INIT": str(code)}))
    assert reason.startswith(f"CUDA's cuInit fails with error {code}: ")
    assert text in reason


@pytest.mark.parametrize(
    ("installed", "version_py", "driver_cuda", "fits"),
    [
        (["torch-2.5.1.dist-info"], "'12.4'", 12020, True),  # minor-version compatibility
        (["torch-2.14.0.dist-info"], "'13.0'", 12090, False),
        (["torch-2.14.0.dist-info"], "'13.0'", 13000, True),
        (["torch-2.0.1.dist-info"], "'11.7'", 13040, True),  # drivers run what is older
        (["torch-2.8.0.dist-info"], "None", 13000, False),
        (["torch-1.13.0a0+git7c98e70.egg-info"], "None", 13000, False),
        (["torch-2.7.1+cu128.dist-info"], None, 11080, False),
        (["torch-2.7.1+cu128.dist-info"], None, 12020, True),
        (["torch-2.7.1+cpu.dist-info"], None, 12020, False),
        (["torch-2.14.0.dist-info", "nvidia_cuda_runtime-13.0.96.dist-info"], None, 12090, False),
        (["torch-2.5.1.dist-info", "nvidia_cuda_runtime_cu12-12.4.127.dist-info"], None, 12020, True),
        (["torch-2.5.1.dist-info"], None, 11080, True),  # nothing is known
        (["torchvision-0.20.1+cpu.dist-info", "torch_geometric-2.6.0.dist-info"], None, 11080, True),
    ],
)
def test_the_driver_against_torch(
    node: Node, installed: list[str], version_py: str | None, driver_cuda: int, fits: bool
) -> None:
    node.install(*installed, cuda=version_py)
    done = node.run(env={"STUB_VERSION": str(driver_cuda)})
    if fits:
        assert done.stdout == "trained\n", done.stderr
    else:
        assert "would train on the CPU" in refused(done)


def test_both_numbers_are_told(node: Node) -> None:
    node.install("torch-2.14.0+cu130.dist-info")
    assert refused(node.run(env={"STUB_VERSION": "12040"})) == (
        "torch 2.14.0+cu130 is built for CUDA 13.0, while the driver is for CUDA 12.4: it would train on the "
        "CPU; install a torch for CUDA 12, or a newer driver"
    )


def test_the_first_torch_on_the_path_counts(tmp_path: Path) -> None:
    for folder, name in (("a", "torch-2.5.1+cu124.dist-info"), ("b", "torch-2.8.0+cpu.dist-info")):
        (tmp_path / folder / name).mkdir(parents=True)
    path = [str(tmp_path / "missing"), str(tmp_path / "a"), str(tmp_path / "b")]
    assert launcher_gpus.find_torch(path) == ("2.5.1+cu124", "12.4", "")
    assert launcher_gpus.find_torch(path[:1]) is None


def test_going_on_without_is_allowed_and_told(node: Node) -> None:
    done = node.run(env={"STUB_COUNT": "0", "GPUYARD_ALLOW_CPU": "1"})
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert "CUDA sees only 0" in done.stderr
    assert done.stderr.endswith("going on without them, as GPUYARD_ALLOW_CPU says\n")


@pytest.mark.parametrize("separator", [(), ("--",)])
def test_exit_code_and_arguments_are_the_command_s(node: Node, separator: tuple[str, ...]) -> None:
    done = node.run(*separator, "sh", "-c", 'printf "%s|" "$@"; exit 7', "sh", "a b", "--", "-x")
    assert (done.returncode, done.stdout) == (7, "a b|--|-x|")


def test_it_becomes_the_command(node: Node) -> None:
    """Same process, so a signal reaches the command; what Python ignores isn't ignored any longer."""
    done = node.run(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert done.returncode == -signal.SIGTERM
    status = node.run("sh", "-c", "grep SigIgn /proc/$$/status").stdout
    assert int(status.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_what_libcuda_opened_is_not_inherited(node: Node) -> None:
    command = ("sh", "-c", "ls /proc/$$/fd")
    checked, unchecked = node.run(*command), node.run(*command, env={"GPUYARD_GPUS": "0"})
    assert checked.returncode == 0
    assert checked.stdout == unchecked.stdout


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (("there-is-no-such-program",), 127, "gpuyard: there-is-no-such-program: there is no such command\n"),
        (("/dev/null",), 126, "gpuyard: /dev/null can't be started: Permission denied\n"),
    ],
)
def test_commands_that_dont_start(node: Node, command: tuple[str, ...], code: int, text: str) -> None:
    done = node.run(*command)
    assert (done.returncode, done.stderr) == (code, text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"#!/no/python3 -u\nx = 1\n", "its first line names /no/python3, which isn't there"),
        (b"#!/bin/sh\r\nls\r\n", "its lines end as on Windows (CRLF); mend it with sed -i 's/\\r$//'"),
    ],
)
@pytest.mark.parametrize("by_path", [True, False])
def test_a_script_whose_interpreter_is_missing(
    node: Node, tmp_path: Path, content: bytes, text: str, by_path: bool
) -> None:
    script = tmp_path / "start-me"
    script.write_bytes(content)
    script.chmod(0o755)
    name = str(script) if by_path else "start-me"
    done = node.run(name, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (done.returncode, done.stderr) == (127, f"gpuyard: {name} can't be started: {text}\n")


def test_a_program_whose_loader_is_missing(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "program"
    content = Path(os.path.realpath("/bin/true")).read_bytes()
    loader = re.search(rb"/lib[\w/.-]*/ld-[\w.-]+", content)
    assert loader
    program.write_bytes(content.replace(loader[0], b"/no/" + b"x" * (len(loader[0]) - 4), 1))
    program.chmod(0o755)
    done = node.run(str(program))
    assert done.returncode == 127
    assert "it is there, and its loader isn't" in done.stderr


def test_without_a_command() -> None:
    done = subprocess.run([sys.executable, launcher.__file__], capture_output=True, text=True, check=False)
    assert done.returncode == launcher.EXIT_USAGE


def test_it_needs_the_standard_library_only() -> None:
    """Also that of an isolated Python without any package."""
    command = [sys.executable, "-I", "-S", launcher.__file__, "/bin/echo", "started"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "started\n"


def test_its_syntax_is_that_of_python_3_8() -> None:
    import ast

    parse: Callable[..., ast.Module] = ast.parse
    assert parse(Path(launcher.__file__).read_text(), feature_version=(3, 8)).body
    with pytest.raises(SyntaxError):  # This Python does look at the version.
        parse("match 1:\n    case 1: pass\n", feature_version=(3, 8))


#: As the stub numbers them.
UUIDS = [f"GPU-{n}0{n}1{n}2{n}3-{n}4{n}5-{n}6{n}7-{n}8{n}9-{n}0{n}1{n}2{n}3{n}4{n}5" for n in range(4)]
_SHOW = (
    sys.executable,
    "-c",
    "import os; e = os.environ; print(e['CUDA_VISIBLE_DEVICES'], e.get('CUDA_DEVICE_ORDER'))",
)


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        (UUIDS[2], "2 PCI_BUS_ID"),
        (f"{UUIDS[3]},{UUIDS[1]}", "3,1 PCI_BUS_ID"),
        ("0,1", "0,1 None"),
        ("", " None"),
    ],
)
def test_numbers_instead_of_uuids(node: Node, visible: str, shown: str) -> None:
    env = {
        "GPUYARD_GPUS": "0",
        "GPUYARD_CUDA_INDEXES": "1",
        "STUB_COUNT": "4",
        "CUDA_VISIBLE_DEVICES": visible,
    }
    done = node.run(*_SHOW, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{shown}\n", "")


@pytest.mark.parametrize("visible", ["MIG-1c0e5c0e-0000-1111-2222-333333333333", f"{UUIDS[0]},GPU-ffffffff"])
def test_what_has_no_number_keeps_its_uuid(node: Node, visible: str) -> None:
    env = {"GPUYARD_CUDA_INDEXES": "1", "STUB_COUNT": "2", "CUDA_VISIBLE_DEVICES": visible}
    done = node.run(*_SHOW, env=env)
    assert done.stdout == f"{visible} None\n"
    assert "keeps their UUIDs" in done.stderr


def test_uuids_stay_where_nothing_else_was_asked_for(node: Node) -> None:
    done = node.run(*_SHOW, env={"CUDA_VISIBLE_DEVICES": UUIDS[1]})
    assert done.stdout == f"{UUIDS[1]} None\n"


def test_simulated_gpus_are_numbered_from_zero(tmp_path: Path) -> None:
    env = {"GPUYARD_SIMULATED": "1", "GPUYARD_GPUS": "2", "GPUYARD_CUDA_INDEXES": "1"}
    done = Node(tmp_path, None, {**env, "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}).run(*_SHOW)
    assert done.stdout == "0,1 PCI_BUS_ID\n"
