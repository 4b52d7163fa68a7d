"""What a run takes over from the shell that submits it: the interpreter, the folder, a few variables."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.runs.submitting.program import check_program, find_program, quoted_line
from gpuyard.workloads.command import is_by_path, needed_script, resolve_command
from gpuyard.workloads.resolved_run import HostContext
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.spec.text_tree import is_text

_SHIM_TIMEOUT_S = 20


def host_context(spec: RunSpec, base: Path, environ: Mapping[str, str]) -> HostContext:
    """The context of a host process; what the spec names is checked to be there.

    Args:
        spec: what to run.
        base: folder that a relative `workdir` starts from, the spec file's or the current one.
        environ: of the shell.

    Raises:
        UsageError: the workdir, the interpreter, the program or the script isn't there.
    """
    workdir = _workdir(spec, base)
    named = isinstance(spec.run, tuple) and is_by_path(spec.run)
    python = find_python(spec.python, workdir, environ, keep_shim=named)
    argv = resolve_command(spec.run, str(python), spec.shell)
    script = needed_script(argv)
    if script:
        _check_script(workdir, script, quoted_line(spec.run))
    virtual_env = environ.get("VIRTUAL_ENV", "")
    context = HostContext(
        python=str(python),
        workdir=str(workdir),
        path=environ.get("PATH", os.defpath),
        home=environ.get("HOME", str(Path.home())),
        user=environ.get("USER") or pwd.getpwuid(os.getuid()).pw_name,
        lang=environ.get("LANG", "C.UTF-8"),
        pythonpath=environ.get("PYTHONPATH", ""),
        virtual_env=virtual_env if virtual_env and python.is_relative_to(virtual_env) else "",
    )
    _check_text(context)
    own_path = spec.env.get("PATH")
    check_program(argv, workdir, own_path or context.search_path, own_path=bool(own_path))
    return context


def _check_text(context: HostContext) -> None:
    """Raises UsageError for bytes that are no UTF-8: a shell hands on any, and the API takes only text."""
    values = {
        "the workdir": context.workdir,
        "the path of the interpreter": context.python,
        "PATH": context.path,
        "HOME": context.home,
        "USER": context.user,
        "LANG": context.lang,
        "PYTHONPATH": context.pythonpath,
        "VIRTUAL_ENV": context.virtual_env,
    }
    for what, value in values.items():
        if not is_text(value):
            raise errors.UsageError(
                f"{what} isn't text in UTF-8: {os.fsencode(value)!r}",
                remedy="rename what it names" if what.startswith("the ") else f"set {what} to other text",
            )


def _check_script(workdir: Path, script: str, if_a_line: errors.UsageError | None) -> None:
    """Raises UsageError where it isn't there: `if_a_line` where its name is rather a line in quotes."""
    path = workdir / script
    try:
        if not path.exists():
            near = _nearest_file(path)
            if if_a_line and " " not in near:
                raise if_a_line
            where = "" if Path(script).is_absolute() else f" (in {workdir})"
            raise errors.UsageError(
                f"{script} isn't there{where}",
                remedy=f"did you mean {near}?"
                if near
                else advice("name a file that is, or another --workdir"),
            )
        if path.is_dir() and not (path / "__main__.py").exists():
            raise errors.UsageError(f"{script} is a folder without a __main__.py", remedy="name a script")
    except OSError as error:
        raise errors.UsageError(
            f"can't look at {script} (in {workdir}): {error.strerror}",
            remedy="name a script that you may read",
        ) from error


def _nearest_file(missing: Path) -> str:
    """The script of the same folder whose name is most like the missing one's; empty for none."""
    scripts = [file.stem for file in missing.parent.glob(f"*{missing.suffix}") if file.is_file()]
    import difflib

    near = difflib.get_close_matches(missing.stem, sorted(scripts), n=1)
    return near[0] + missing.suffix if near else ""


def _workdir(spec: RunSpec, base: Path) -> Path:
    workdir = (base / Path(spec.workdir).expanduser()) if spec.workdir else base
    try:
        if not workdir.is_dir():
            what = "is a file" if workdir.exists() else "isn't there"
            raise errors.UsageError(
                f"workdir {workdir} {what}", remedy="make the folder, or name another workdir"
            )
        return Path(os.path.abspath(workdir))  # noqa: PTH100 - resolve() would replace links of the user's
    except FileNotFoundError as error:
        raise errors.UsageError(
            "the current folder was removed",
            remedy=advice("go to one that is there, or name an absolute --workdir"),
        ) from error
    except OSError as error:
        raise errors.UsageError(
            f"can't look at workdir {workdir}: {error.strerror}", remedy="name one that you may enter"
        ) from error


def find_python(
    wanted: str | None, workdir: Path, environ: Mapping[str, str], *, keep_shim: bool = False
) -> Path:
    """The interpreter: `wanted`, else the active virtual environment's, else `python3` on PATH.

    A shim (pyenv, asdf) is resolved once, here: it costs more time at each start than Python itself. It is
    kept for a run that starts something else, which may never ask for Python.

    Raises:
        UsageError: there is none.
    """
    search_path = environ.get("PATH", os.defpath)
    if wanted:
        found = find_program(wanted if "/" not in wanted else str(workdir / wanted), search_path)
        if found is None:
            raise errors.UsageError(
                f"python {wanted!r} isn't an executable here",
                remedy="give its path, such as /usr/bin/python3",
            )
        return found if keep_shim else _without_shim(found, workdir, environ)
    if virtual_env := environ.get("VIRTUAL_ENV"):
        own = Path(virtual_env) / "bin" / "python"
        if os.access(own, os.X_OK):
            return own
    found = find_program("python3", search_path)
    if found is None:
        raise errors.UsageError(
            "there is no python3 on PATH", remedy=advice("name an interpreter with --python")
        )
    return found if keep_shim else _without_shim(found, workdir, environ)


def _without_shim(python: Path, workdir: Path, environ: Mapping[str, str]) -> Path:
    with python.open("rb") as file:
        if file.read(2) != b"#!":
            return python
    try:
        asked = subprocess.run(
            [str(python), "-c", "import sys; print(sys.executable)"],
            env=dict(environ),
            # The folder may choose a version of its own: `.python-version`, `.tool-versions`.
            cwd=workdir,
            capture_output=True,
            text=True,
            timeout=_SHIM_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise errors.UsageError(
            f"{python} doesn't start: {reason[-1] if reason else error}",
            remedy=advice("name an interpreter with --python"),
        ) from error
    return Path(asked.stdout.strip() or python)
