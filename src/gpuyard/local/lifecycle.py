"""Starting, finding and stopping the daemon, from the command line's side."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.client.http.exchange import PATIENCE_S
from gpuyard.local.paths import YardPaths
from gpuyard.local.settings import Choices, RunningYard, Settings, load_running
from gpuyard.regular_files import open_regular

_AS_CHOSEN = Choices()
_START_TIMEOUT_S = 60.0
#: The other command gives up before that.
_TURN_TIMEOUT_S = 2 * _START_TIMEOUT_S
_STOP_TIMEOUT_S = 30.0
_KILL_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 10.0
_MENDING_TIMEOUT_S = 10.0
_LAST_BREATH_S = 5.0
_POLL_S = 0.05
#: The daemon gets these of the caller's environment and nothing else: it outlives the shell, and what
#: a shell had must not leak into other people's runs.
_KEPT_ENVIRONMENT = (
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "LANG",
    "GPUYARD_HOME",
    "XDG_DATA_HOME",
    "LD_LIBRARY_PATH",
)


@dataclass(frozen=True)
class Started:
    """The yard after `start`; `fresh` says whether this call started it."""

    yard: RunningYard
    fresh: bool


def daemon_pid(paths: YardPaths) -> int:
    """The pid that holds the data folder's lock; 0 when nobody does.

    Raises:
        YardError: the lock is another user's.
    """
    try:
        with os.fdopen(open_regular(paths.lock, follow_links=True)) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read().strip() or "0")
    except PermissionError as error:
        raise errors.YardError(
            f"can't read {paths.lock}: {error.strerror}",
            remedy="the yard there is another user's; set GPUYARD_HOME to a folder of your own",
        ) from error
    except (OSError, ValueError):
        return 0
    return 0


def start(
    paths: YardPaths,
    choices: Choices = _AS_CHOSEN,
    *,
    environ: Mapping[str, str] = os.environ,
    on_wait: Callable[[str], None] = lambda text: None,
) -> Started:
    """Starts the daemon unless it runs, and returns once its API answers and its node is ready.

    Args:
        paths: whose yard.
        choices: kept for the next start, too.
        environ: of the caller; a few variables of it reach the daemon.
        on_wait: told what is being waited for.

    Raises:
        GpuyardError: whatever kept the daemon from starting, as the daemon itself reported it.
    """
    paths.make_folders()
    with _one_at_a_time(paths, on_wait):
        return _start(paths, choices, environ, on_wait)


@contextlib.contextmanager
def _one_at_a_time(paths: YardPaths, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Commands that would start the same yard at once take turns: the later ones find it running."""
    turn = _open(paths.starting, os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + _TURN_TIMEOUT_S
    try:
        while not _locked(turn):
            on_wait("another command is starting the yard")
            if time.monotonic() > deadline:
                raise errors.YardBusy(
                    f"another command has been starting the yard for {_TURN_TIMEOUT_S:.0f} s",
                    remedy=f"end that command and try again; see {paths.daemon_log}",
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(turn)


def _open(path: Path, flags: int) -> int:
    try:
        return open_regular(path, flags)
    except OSError as error:
        raise errors.StoreUnwritable(
            f"can't write {path}: {error.strerror}",
            remedy=f"mend its permissions, or remove {path}; or set GPUYARD_HOME to another folder",
        ) from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(
    paths: YardPaths,
    choices: Choices,
    environ: Mapping[str, str],
    on_wait: Callable[[str], None],
) -> Started:
    if running := _running(paths, on_wait):
        return Started(running, fresh=False)
    on_wait("starting the yard")
    reader, writer = os.pipe()
    try:
        process = _spawn(paths, [*choices.arguments(), "--ready-fd", str(writer)], writer, environ)
        os.close(writer)
        writer = -1
        try:
            _read_report(reader, process, paths)
        except errors.GpuyardError:
            _end_of(process)
            raise
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    # Its own child would stay a zombie of a long-lived caller; the command line exits soon.
    process.returncode = 0
    found = load_running(paths.running)
    if found is None:
        raise errors.YardError(f"the yard went away as it started, see {paths.daemon_log}")
    return Started(found, fresh=True)


def _running(paths: YardPaths, on_wait: Callable[[str], None]) -> RunningYard | None:
    """The yard that runs. One whose files were taken out of /tmp makes them again within seconds; one that
    is ending is waited for.

    Raises:
        YardError: it doesn't answer.
    """
    deadline = time.monotonic() + _MENDING_TIMEOUT_S
    while pid := daemon_pid(paths):
        running = load_running(paths.running)
        if running and running.daemon_pid == pid and _answers(paths, pid, on_wait):
            return running
        if time.monotonic() > deadline:
            return None
        on_wait(f"the yard (pid {pid}) is making its sockets, or ending")
        time.sleep(_POLL_S)
    return None


def _answers(paths: YardPaths, pid: int, on_wait: Callable[[str], None]) -> bool:
    """Whether the daemon takes a request and answers it; False when its socket isn't there, or is closed.

    Raises:
        YardError: it takes it and is silent.
    """
    due = time.monotonic() + _ANSWER_TIMEOUT_S
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(paths.api_socket))
            connection.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        except OSError:
            return False
        while True:
            try:
                return bool(connection.recv(1))
            except TimeoutError as error:
                from gpuyard.local.silence import silence_of

                silence = silence_of(pid)
                if silence.is_stopped or time.monotonic() > due:
                    raise errors.YardError(silence.text, remedy=silence.remedy) from error
                on_wait(f"{silence.text} yet")
            except OSError:
                return False


def _spawn(
    paths: YardPaths, arguments: list[str], writer: int, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    kept = {name: environ[name] for name in _KEPT_ENVIRONMENT if name in environ}
    # Two malloc arenas serve one event loop and one writer thread; glibc's default of eight per core
    # is memory that an idle yard would hold for nothing.
    kept |= {"GPUYARD_HOME": str(paths.data_dir), "MALLOC_ARENA_MAX": "2"}
    # Its chatter would fill the log: errors only.
    kept |= {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "ERROR"}
    # Read, too: the daemon keeps the newest part of it.
    with os.fdopen(_open(paths.daemon_log, os.O_RDWR | os.O_CREAT | os.O_APPEND), "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gpuyard.local.daemon", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=kept,
            cwd="/",
            start_new_session=True,
            pass_fds=(writer,),
        )


def _read_report(reader: int, process: subprocess.Popen[bytes], paths: YardPaths) -> None:
    """Waits for the one line in which the daemon says that it is ready, or why it isn't."""
    text = b""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not text.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            process.kill()
            raise errors.YardError(
                f"the yard didn't get ready in {_START_TIMEOUT_S:.0f} s", remedy=f"see {paths.daemon_log}"
            )
        piece = os.read(reader, 65536)
        if not piece:
            raise errors.YardError(f"the yard failed: {_end_of(process)}", remedy=f"see {paths.daemon_log}")
        text += piece
    report = json.loads(text)
    if "error" in report:
        error = errors.YardError(report["error"], remedy=report.get("remedy", ""))
        error.exit_code = int(report.get("exit_code", 1))
        raise error


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """How a daemon ended that had nothing to say any more."""
    try:
        code = process.wait(_LAST_BREATH_S)
    except subprocess.TimeoutExpired:
        return "it doesn't answer"
    return (
        f"signal {-code} ended it as it started" if code < 0 else f"it ended with code {code} as it started"
    )


def wake(paths: YardPaths) -> int:
    """Lets a daemon go on that somebody has stopped (SIGSTOP); its pid, 0 when none is."""
    from gpuyard.local.silence import silence_of

    pid = daemon_pid(paths)
    if not pid or not silence_of(pid).is_stopped:
        return 0
    with contextlib.suppress(OSError):  # another user's, or it has ended
        os.kill(pid, signal.SIGCONT)
    return pid


def stop(paths: YardPaths, on_wait: Callable[[str], None] = lambda text: None) -> bool:
    """Ends the daemon and its agent; processes of runs stay. False when it wasn't running.

    One that doesn't end in time is killed: the next start goes on from what the store and the runs' folders
    have, as after a crash.

    Raises:
        YardError: it doesn't even end of that.
    """
    pid = daemon_pid(paths)
    if not pid:
        return False
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        # One that was stopped gets it only now.
        signal.pidfd_send_signal(handle, signal.SIGCONT)
        if _ends(handle, PATIENCE_S):
            return True
        on_wait(f"the yard (pid {pid}) is ending")
        if _ends(handle, _STOP_TIMEOUT_S):
            return True
        on_wait(f"the yard (pid {pid}) didn't end within {_STOP_TIMEOUT_S:.0f} s, and is killed")
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not _ends(handle, _KILL_TIMEOUT_S):
            from gpuyard.local.silence import silence_of

            silence = silence_of(pid)
            raise errors.YardError(f"{silence.text}, and can't be killed", remedy=silence.remedy)
    except ProcessLookupError:
        pass  # it has ended meanwhile
    except PermissionError as error:
        raise errors.YardError(f"the yard (pid {pid}) belongs to another user") from error
    finally:
        os.close(handle)
    return True


def _ends(handle: int, timeout_s: float) -> bool:
    return bool(select.select([handle], [], [], timeout_s)[0])


def differs(settings: Settings, choices: Choices) -> str:
    """What a running yard would have to be restarted for; empty when nothing."""
    new = settings.chosen(choices)
    if new.simulate != settings.simulate:
        return f"it simulates {settings.simulate or 'no GPUs'}, not {new.simulate or 'none'}"
    if new.port != settings.port:
        return f"its port is {settings.port}, not {new.port}"
    if new.mig_strategy != settings.mig_strategy:
        return f"its MIG strategy is {settings.mig_strategy}, not {new.mig_strategy}"
    if new.gpu_config != settings.gpu_config:
        return "its GPUs are configured in another way"
    if new.gpu_backend != settings.gpu_backend:
        return f"its --gpu-backend is {settings.gpu_backend or 'none'}, not {new.gpu_backend or 'none'}"
    if new.share_with_others != settings.share_with_others:
        given = "gives" if settings.share_with_others else "doesn't give"
        return f"it {given} out GPUs that processes of others are on"
    return ""
