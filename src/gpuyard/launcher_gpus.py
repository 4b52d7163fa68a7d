"""Of runs that asked for GPUs: looks whether they are there and usable, and numbers them where asked to.

A run that asked for GPUs must not train on the CPU unnoticed, which is what torch does when the driver is too
old or no device is visible. So this checks, without importing torch:

1. device nodes are there,
2. libcuda.so.1 loads, starts and counts at least as many devices as were asked for,
3. the driver's CUDA suits the CUDA that the installed torch was built with.

Of AMD's GPUs: /dev/kfd and as many render nodes can be opened, and the installed torch is built for ROCm.

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""
# pathlib would double the time that the launcher takes.
# ruff: noqa: PTH110, PTH118, PTH123, PTH208

import os
import sys

if False:  # typing would cost every run's start
    from typing import Any

#: Device nodes of a GPU by the start of their names: the usual ones, WSL's, Jetson's.
_NODES = ("nvidia", "dxg", "nvhost-gpu", "nvgpu", "nvmap")
#: The first two capability nodes are for managing MIG; others are instances.
_MIG_MANAGING = ("nvidia-cap1", "nvidia-cap2")

#: Prints the UUID of each GPU as NVIDIA_VISIBLE_DEVICES has it; cuDeviceGetUuid (cuda.h) gives its 16 bytes.
_LIST_UUIDS = """
import ctypes, uuid
cuda = ctypes.CDLL("libcuda.so.1")
count, made = ctypes.c_int(0), (ctypes.c_ubyte * 16)()
assert not cuda.cuInit(0) and not cuda.cuDeviceGetCount(ctypes.byref(count))
for index in range(count.value):
    device = ctypes.c_int(0)
    assert not cuda.cuDeviceGet(ctypes.byref(device), index)
    assert not cuda.cuDeviceGetUuid(made, device)
    print("GPU-" + str(uuid.UUID(bytes=bytes(made))))
"""

# CUresult, cuda.h.
_CUDA_ERRORS = {
    3: "the driver doesn't initialise; is it loaded, and as new as its libraries?",
    34: "the libcuda that was found is a stub; take the folder with `stubs` out of LD_LIBRARY_PATH",
    46: "all GPUs are busy or unavailable",
    100: "no device is visible to CUDA; see CUDA_VISIBLE_DEVICES, and the pod's runtimeClassName",
    802: "the GPUs' fabric isn't ready; is nvidia-fabricmanager running on the node?",
    803: "libcuda and the kernel's driver are of different versions; reboot the node after a driver update",
    804: "the image's forward compatibility libraries don't support this GPU; remove /usr/local/cuda/compat",
}


class Unfit(Exception):
    """Why the run can't have the GPUs that it asked for."""


def check(asked: int, dev: str) -> None:
    """Raises Unfit unless `asked` GPUs can be used."""
    names = _names_in(dev)
    if _gets_amd(names):
        _check_amd(asked, dev)
        return
    given = "NVIDIA_VISIBLE_DEVICES=" + os.environ.get("NVIDIA_VISIBLE_DEVICES", "")
    if not any(name.startswith(_NODES) for name in names):
        raise Unfit(
            f"no GPU's device node is there: the container runtime didn't bring any in ({given}); "
            "set the pod's runtimeClassName to nvidia, or see to the node's container toolkit"
        )
    before = _open_files()
    driver_cuda, count = _ask_driver()
    # The command must not inherit what libcuda opened.
    for descriptor in _open_files() - before:
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            continue
    capabilities = _names_in(os.path.join(dev, "nvidia-caps"))
    instances = [name for name in capabilities if name.startswith("nvidia-cap") and name not in _MIG_MANAGING]
    # CUDA shows a process one MIG instance, however many it was given.
    if count < (1 if instances or (not capabilities and "MIG-" in given) else asked):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise Unfit(f"CUDA sees only {count} ({given}, CUDA_VISIBLE_DEVICES={visible})")
    torch = find_torch(sys.path)
    if torch is not None:
        _check_torch(torch[0], torch[1], driver_cuda)


def _gets_amd(names: "list[str]") -> bool:
    """By what the device plugin says; AMD's own says nothing, and then a node without NVIDIA's tells."""
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        return False
    if os.environ.get("HIP_VISIBLE_DEVICES"):
        return True
    return "kfd" in names and not any(name.startswith(_NODES) for name in names)


def _check_amd(asked: int, dev: str) -> None:
    folder = os.path.join(dev, "dri")
    render = [os.path.join(folder, name) for name in _names_in(folder) if name.startswith("renderD")]
    nodes = [os.path.join(dev, "kfd"), *render]
    usable = {node for node in nodes if os.access(node, os.R_OK | os.W_OK)}
    if nodes[0] not in usable or len(usable) - 1 < asked:
        raise Unfit(
            f"of AMD's device nodes it can open {', '.join(sorted(usable)) or 'none'}: it needs /dev/kfd and "
            "a /dev/dri/renderD… for each GPU; is the run's user in the group that has them (render)?"
        )
    torch = find_torch(sys.path)
    if torch is not None and not torch[2] and torch[1]:
        built = f"without ROCm (CUDA: {torch[1]})"
        raise Unfit(f"torch {torch[0]} is built {built}: it would train on the CPU; install a ROCm build")


def _ask_driver() -> "tuple[tuple[int, int], int]":
    """The CUDA version of the driver's library, and how many devices it counts."""
    import ctypes

    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Unfit(
            f"the driver's library can't be loaded ({error}): the container runtime didn't bring it in, "
            "or NVIDIA_DRIVER_CAPABILITIES lacks compute"
        ) from error
    number = ctypes.c_int(0)
    _call(cuda.cuInit, 0)
    _call(cuda.cuDriverGetVersion, ctypes.byref(number))
    version = number.value
    _call(cuda.cuDeviceGetCount, ctypes.byref(number))
    return (version // 1000, version % 1000 // 10), number.value


def _call(function: "Any", argument: object) -> None:
    code = function(argument)
    if code:
        meaning = _CUDA_ERRORS.get(code, "see CUresult in NVIDIA's driver API for what it means")
        raise Unfit(f"CUDA's {function.__name__} fails with error {code}: {meaning}")


def use_indexes(say: "Any", *, is_simulated: bool) -> None:
    """Puts the numbers that CUDA gives its GPUs, in the order of the PCI bus, in the place of their UUIDs."""
    wanted = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if not wanted or all(name.isdigit() for name in wanted):
        return
    uuids = wanted if is_simulated else _list_uuids()
    numbers = {uuid: index for index, uuid in enumerate(uuids)}
    # A UUID may be shortened as long as it is unique; an instance of MIG has no number.
    found = [[number for uuid, number in numbers.items() if uuid.startswith(name)] for name in wanted]
    if any(len(each) != 1 for each in found):
        say("CUDA doesn't number these GPUs, so CUDA_VISIBLE_DEVICES keeps their UUIDs")
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(each[0]) for each in found)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


def _list_uuids() -> "list[str]":
    """Of every GPU that CUDA could use here, in the order of the PCI bus; empty when it can't be asked."""
    import subprocess

    # CUDA reads the environment once in a process, so another one asks it.
    environment = dict(os.environ, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    listing, quiet = [sys.executable, "-c", _LIST_UUIDS], subprocess.DEVNULL
    try:
        printed = subprocess.check_output(listing, env=environment, stderr=quiet, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return printed.decode("ascii", "replace").split()


def _check_torch(version: str, cuda: str, driver_cuda: "tuple[int, int]") -> None:
    if cuda == "none":
        raise Unfit(f"torch {version} is built without CUDA: it would train on the CPU; install a CUDA build")
    major = cuda.partition(".")[0]
    # From CUDA 11 on a driver runs every minor version of its own major version, and all older ones.
    if major.isdigit() and driver_cuda[0] < int(major):
        raise Unfit(
            f"torch {version} is built for CUDA {cuda}, while the driver is for CUDA {driver_cuda[0]}."
            f"{driver_cuda[1]}: it would train on the CPU; install a torch for CUDA {driver_cuda[0]}, "
            "or a newer driver"
        )


def find_torch(path: "list[str]") -> "tuple[str, str, str] | None":
    """The torch that `import torch` would find: its version, its CUDA ("12.4", "none", "" unknown), and its
    ROCm ("6.2", "" for none)."""
    for folder in path:
        names = _names_in(folder or ".")
        for name in names:
            if name.startswith("torch-") and name.endswith((".dist-info", ".egg-info")):
                version = name[len("torch-") :].rpartition(".")[0]
                return version, _cuda_of(folder, version, names), _rocm_of(folder, version)
    return None


def _cuda_of(folder: str, version: str, names: "list[str]") -> str:
    built = _built_with(folder, "cuda")
    if built:
        return built
    local = version.partition("+")[2]
    if local.startswith(("cpu", "rocm")):
        return "none"
    if local.startswith("cu") and local[2:].isdigit():
        return f"{local[2:-1]}.{local[-1]}"
    pins = [name for name in names if name.startswith("nvidia_cuda_runtime") and name.endswith(".dist-info")]
    return ".".join(pins[0].partition("-")[2].split(".")[:2]) if len(pins) == 1 else ""


def _rocm_of(folder: str, version: str) -> str:
    built = _built_with(folder, "hip")
    local = version.partition("+")[2]
    return built.replace("none", "") or (local[4:] if local.startswith("rocm") else "")


def _built_with(folder: str, name: str) -> str:
    """What torch/version.py says: a version, "none", or "" where it says nothing."""
    try:
        with open(os.path.join(folder, "torch", "version.py"), encoding="utf-8") as file:
            for line in file:
                # cuda: Optional[str] = '12.4'
                if line.startswith(name) and line[len(name) : len(name) + 1] in (":", " ", "="):
                    value = line.partition("=")[2].strip().strip("'\"")
                    return "none" if value in ("None", "") else value
    except (OSError, ValueError):
        pass
    return ""


def _open_files() -> "set[int]":
    # The one that listed them is closed again, and its number is free for the next.
    return {int(name) for name in _names_in("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)}


def _names_in(folder: str) -> "list[str]":
    try:
        return os.listdir(folder)
    except OSError:
        return []
