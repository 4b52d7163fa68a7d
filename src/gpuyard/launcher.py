"""Runs before the user's command: looks whether the GPUs asked for are there and usable, then becomes it.

A run that asked for GPUs must not train on the CPU unnoticed, which is what torch does when the driver is too
old or no device is visible. So this checks, without importing torch:

1. device nodes are there (GPUYARD_GPUS=N says how many GPUs were asked for; 0 or unset: nothing is checked),
2. libcuda.so.1 loads, starts and counts at least as many devices,
3. the driver's CUDA suits the CUDA that the installed torch was built with.

Of AMD's GPUs: /dev/kfd and as many render nodes can be opened, and the installed torch is built for ROCm.

What fails ends the run with exit code 78 and the reason on standard error. GPUYARD_ALLOW_CPU=1 goes on all
the same; GPUYARD_SIMULATED=1 (set with simulated GPUs) satisfies every check. GPUYARD_CUDA_INDEXES=1 puts
numbers in the place of UUIDs into CUDA_VISIBLE_DEVICES, for programs that read it as such.

    python launcher.py [--pythonpath FOLDERS] [--] COMMAND [ARGUMENT...]

--pythonpath puts folders (colons between them, relative to the working folder) before those of PYTHONPATH: a
script that travelled to an image finds the modules there as if it lay beside them.

A run of several pods starts when all are there, and ends when one has failed: see launcher_gang.py, which
lies beside this file, and is read where GPUYARD_GANG is set. So does launcher_grace.py, for runs that say how
they are to be ended (GPUYARD_GRACE_S, GPUYARD_SIGNAL), and launcher_sweep.py for tasks (GPUYARD_SWEEP).

It replaces itself by the command; 127 is the exit code when there is none, 126 when it can't run. As the
first process of a container, with which all others end, it stays and starts the command: see `stay`. So it
does in those runs.
Standard library only, Python 3.6 and later: it is copied into images, or travels in a ConfigMap.
"""
# pathlib would double the time that this takes.
# ruff: noqa: PTH100, PTH110, PTH116, PTH118, PTH120, PTH123, PTH208

# Annotations are quoted, and not evaluated: older Pythons have no `list[str]`.
import os
import signal
import stat
import sys
import time

if False:  # typing would cost every run's start
    from typing import Any

EXIT_UNFIT = 78  # EX_CONFIG of sysexits.h
EXIT_USAGE = 64
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

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

#: What a container is stopped with.
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: After it a stop isn't what a command ended of, unless it died of it: the usual grace of Kubernetes, where
#: GPUYARD_GRACE_S says no other.
_STOP_S = 30.0
#: How long the reader of a pipe may work on what is left in it.
_DRAIN_S = 5.0
#: How long what a stopped command left may take. Nodes kill it after a grace; a kill by hand has none.
_LEFT_S = 3600.0
#: The si_code of a signal by a terminal's key, which all of its process group gets.
_SI_KERNEL = 0x80


class Unfit(Exception):
    """Why the run can't have the GPUs that it asked for."""


def main(argv: "list[str]", dev: str = "/dev") -> int:
    """Checks, then becomes the command of these arguments; returns only when it can't."""
    words = argv[1:]
    if len(words) > 1 and words[0] == "--pythonpath":
        # Absolute, since the command's own processes may work elsewhere.
        added = [os.path.abspath(folder) for folder in words[1].split(":")]
        os.environ["PYTHONPATH"] = ":".join(filter(None, [*added, os.environ.get("PYTHONPATH")]))
        words = words[2:]
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        _say("there is no command to start; write launcher.py COMMAND [ARGUMENT...]")
        return EXIT_USAGE
    if _is_on("GPUYARD_CUDA_INDEXES"):
        _use_indexes()
    asked = os.environ.get("GPUYARD_GPUS", "")
    if asked.isdigit() and int(asked) and not _is_on("GPUYARD_SIMULATED"):
        try:
            check(int(asked), dev)
        except Unfit as reason:
            _say(f"this run asked for {asked} GPU{'' if asked == '1' else 's'}, and {reason}")
            if not _is_on("GPUYARD_ALLOW_CPU"):
                _say("GPU check failed; set GPUYARD_ALLOW_CPU=1 for a run that may go on without")
                return EXIT_UNFIT
            _say("going on without them, as GPUYARD_ALLOW_CPU says")
    return _become(command)


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


def _use_indexes() -> None:
    """Puts the numbers that CUDA gives its GPUs, in the order of the PCI bus, in the place of their UUIDs."""
    wanted = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if not wanted or all(name.isdigit() for name in wanted):
        return
    uuids = wanted if _is_on("GPUYARD_SIMULATED") else _list_uuids()
    numbers = {uuid: index for index, uuid in enumerate(uuids)}
    # A UUID may be shortened as long as it is unique; an instance of MIG has no number.
    found = [[number for uuid, number in numbers.items() if uuid.startswith(name)] for name in wanted]
    if any(len(each) != 1 for each in found):
        _say("CUDA doesn't number these GPUs, so CUDA_VISIBLE_DEVICES keeps their UUIDs")
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


def _become(command: "list[str]") -> int:
    # Python ignores these two, and what is ignored stays so in the command.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - this is what a launcher is for
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = _why_missing(command[0]) if missing else f" can't be started: {error.strerror}"
        _say(command[0] + why)
        return EXIT_NOT_FOUND if missing else EXIT_NOT_EXECUTABLE


def _why_missing(command: str) -> str:
    """The system says the same of a program that isn't there and of one whose interpreter isn't."""
    for folder in [""] if "/" in command else os.get_exec_path():
        path = os.path.join(folder, command)
        try:
            with open(path, "rb") as file:
                line = file.readline(256)
        except OSError:
            continue
        if not line.startswith(b"#!"):
            return " can't be started: it is there, and its loader isn't: is it made for another C library?"
        if line.endswith(b"\r\n"):
            return " can't be started: its lines end as on Windows (CRLF); mend it with sed -i 's/\\r$//'"
        name = (line[2:].split() or [b""])[0].decode(errors="replace")
        return f" can't be started: its first line names {name}, which isn't there"
    return ": there is no such command"


def stay(run: "Any", gang: "Any" = None, grace: "Any" = None) -> int:
    """Runs it in a child, and gives its exit code, 128 + n after signal n. Zombies are reaped meanwhile.

    Signals go to the child alone: its workers are its own to stop. When it has died of one, as a shell does,
    or ended soon after a stop, what it started is told, and waited for: it may be saving.
    """
    if os.getpid() != 1:  # whose children all orphans are
        try:
            import ctypes

            ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        except (ImportError, OSError, AttributeError):
            pass
    # Blocked, none is lost, not even one that process 1 doesn't handle. Faults of our own can't wait.
    taken = set(signal.Signals) - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    command = os.fork()
    if not command:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return int(run())
    passed: dict[int, float] = {}
    ended = _reap()
    if gang is not None:
        gang.watch(lambda: _end_with_gang(command, passed, grace))
    if grace is not None:
        grace.watch()
    while command not in ended:
        got = signal.sigwaitinfo(taken)
        if got.si_signo != signal.SIGCHLD:
            passed[got.si_signo] = time.monotonic()
            if grace is not None and got.si_signo == signal.SIGTERM:
                grace.begin_end()
            # A Job that has failed stops pods whose gang has told the command already.
            is_told = gang is not None and gang.ended_by and got.si_signo in _STOPPING
            if got.si_code != _SI_KERNEL and not is_told:
                _send(command, got.si_signo)
        ended = _reap()
    code, soon = ended[command], time.monotonic() - _grace_s()
    stops = [(at, by) for by, at in passed.items() if code == 128 + by or (by in _STOPPING and at > soon)]
    if stops:
        by = max(stops)[1]
        _end_children(by, taken)
        if grace is not None and grace.was_cut and code == 128 + signal.SIGKILL:
            code = 128 + by
    if grace is not None:
        grace.close()
    return code


def _grace_s() -> "float":
    """How long the container has from the signal of a stop to SIGKILL, as far as is known."""
    said = os.environ.get("GPUYARD_GRACE_S", "")
    return float(said) if said.isdecimal() else _STOP_S


def _end_with_gang(command: int, passed: "dict[int, float]", grace: "Any") -> None:
    """Ends the command and what it left, as a stop does, unless it is being stopped."""
    if not set(_STOPPING).intersection(passed):
        passed[signal.SIGTERM] = time.monotonic()
        if grace is not None:
            grace.begin_end()
        _send(command, signal.SIGTERM)
    time.sleep(_grace_s())
    for pid in _look()[0]:
        _send(pid, signal.SIGKILL)


def _end_children(by: int, taken: "set[signal.Signals]") -> None:
    """Tells what the command left by the signal of the stop or of a later one, and waits for it."""
    due: dict[int, float] = {}
    give_up_at = time.monotonic() + max(_LEFT_S, _grace_s())
    while _tell_children(by, due) and time.monotonic() < give_up_at:
        got = signal.sigtimedwait(taken, 0.02)
        if got and got.si_signo in _STOPPING and got.si_code != _SI_KERNEL:
            by = got.si_signo
            # Who has been told is told again; a reader keeps its time.
            due = {pid: at for pid, at in due.items() if at < float("inf")}
        _reap()


def _tell_children(by: int, due: "dict[int, float]") -> bool:
    """Signals each child at the time that `due` keeps here; False when there are none.

    Tee isn't told in `python train.py | tee log`: it ends with its last writer, whose last words count.
    What has another parent is told when that has ended: then it is our child.
    """
    (children, readers), now = _look(), time.monotonic()
    for pid, handled in children.items():
        if pid in readers:
            due[pid] = now + _DRAIN_S
        elif due.get(pid, now) <= now:
            _send(pid, by if handled >> (by - 1) & 1 else signal.SIGTERM)
            due[pid] = float("inf")
    return bool(children)


def _look() -> "tuple[dict[int, int], set[int]]":
    """Our children with the signals that they handle, and all who read from a pipe that others write to."""
    children: dict[int, int] = {}
    pipes: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/status", errors="replace") as file:
                status = dict(line.split(":", 1) for line in file)
            if int(status["PPid"]) == os.getpid() and status["State"].split()[0] not in "ZX":
                children[pid] = int(status.get("SigCgt", "0"), 16)
            for number in {"0", "1", "2"}.intersection(os.listdir(f"/proc/{pid}/fd")):
                found = os.stat(f"/proc/{pid}/fd/{number}")
                if stat.S_ISFIFO(found.st_mode):
                    pipes.setdefault((found.st_dev, found.st_ino), (set(), set()))[number > "0"].add(pid)
        except OSError:  # it has ended
            continue
    return children, {pid for reading, writing in pipes.values() for pid in reading if writing - {pid}}


def _reap() -> "dict[int, int]":
    """The exit codes of the children that have ended."""
    codes: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return codes
            codes[pid] = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    except ChildProcessError:
        return codes


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (PermissionError, ProcessLookupError):  # it became another user's, it has ended
        pass


def _beside(name: str) -> "Any":
    """Another file of the launcher's, which only some runs need."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    try:
        return __import__(name)
    except ImportError:
        _say(name + ".py isn't beside it: build the image again with this gpuyard")
        sys.exit(EXIT_USAGE)
    finally:
        del sys.path[0]


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def _say(text: str) -> None:
    print(f"gpuyard: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # The parent of a container's first process is outside.
    first = os.getpid() == 1 or os.getppid() == 0
    sweep = "GPUYARD_SWEEP" in os.environ
    words = _beside("launcher_sweep").become_task(sys.argv, _say) if sweep else sys.argv
    by_grace = os.environ.get("GPUYARD_GRACE_S") or os.environ.get("GPUYARD_SIGNAL")
    ending = _beside("launcher_grace").Grace(_look, _send, _say) if by_grace else None
    if os.environ.get("GPUYARD_GANG"):
        together = _beside("launcher_gang").stay_together
        sys.exit(together(lambda run, gang: stay(run, gang, ending), lambda: main(words), _say))
    sys.exit(stay(lambda: main(words), None, ending) if first or by_grace else main(words))
