"""What compiles the wheels of one platform, which decides the digests of their layers."""

from __future__ import annotations

from gpuyard.building.lock import NAME as LOCK_NAME
from gpuyard.building.planning.platform_plan import PlatformPlan
from gpuyard.building.python.byte_code import Compiler, find_compiler
from gpuyard.building.work import BuildWork


async def choose_compiler(plan: PlatformPlan, work: BuildWork) -> Compiler | None:
    """An interpreter of this machine that fits the base; None where nothing is compiled.

    The user is told where there is none, and where the lock was made with another.
    """
    if not work.request.image.byte_code or not plan.wheels:
        return None
    python = plan.environment.python
    compiler = await find_compiler(python.minor, work.environ)
    if compiler is None:
        work.reporter.say(
            f"no byte code: there is no python{python.version} on this machine's PATH to compile with, "
            "so imports in the image are slower"
        )
    locked, here = plan.lock.byte_code, str(compiler or "none")
    if locked not in ("", here):
        work.reporter.say(
            f"{LOCK_NAME} was made where byte code was by {locked}, and here it is by {here}: the "
            "image's digest is another than there"
        )
    return compiler
