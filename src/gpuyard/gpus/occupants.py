"""Who else has a GPU: a process that is no run, or another yard of the machine; and how a node says it.

Neither is a fault of the GPU, but it isn't given to anybody else meanwhile, and the device plugin API knows
no third state. The agent's labeller writes who it is as an annotation of the node.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from gpuyard.kube.objects import annotations_of
from gpuyard.kube.timestamps import parse_time
from gpuyard.kube.wellknown import ANNOTATION_GPU_OCCUPANTS

_MAX_LENGTH = 200
#: More than anybody reads, and the annotations of a node have 256 KiB together.
_MAX_OCCUPANTS = 256
_MAX_BYTES = 64 << 10
#: More than there is of anything.
_MOST = 2**53
#: (seconds, unit), each from twice of it on.
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Occupant:
    """Somebody else on a GPU.

    Attributes:
        index: of the GPU, in the driver's order.
        uuid: of the GPU, or of the part of it.
        user: whose process or yard it is; empty where that can't be seen.
        since: when the process began, or the yard took the GPU, RFC 3339; empty where that can't be seen.
        pid: of the process; 0 for a yard.
        command: the process's program.
        memory_mib: of the GPU that the process holds, roughly; None where the driver doesn't say.
        home: the yard's folder.
        run: of that yard, which has the GPU.
        withheld: whether the GPU isn't given out meanwhile.
        age_s: seconds since then.
    """

    index: int
    uuid: str
    user: str
    since: str = ""
    pid: int = 0
    command: str = ""
    memory_mib: int | None = None
    home: str = ""
    run: str = ""
    withheld: bool = True
    age_s: float | None = None

    def __str__(self) -> str:
        return self.on_node("")

    def on_node(self, name: str) -> str:
        """`GPU 3: held by alice, pid 4711 (python), 3 h, 21 GiB, not a run`, or the yard that has it."""
        gpu = f"GPU {self.index}{name and f' of node {name}'}"
        if not self.pid:
            whose = yard_text(self.user, self.home, self.run, self.since)
            return f"{gpu} is held by {whose}"
        how = "held" if self.withheld else "used"
        facts = [
            f"{how} by {self.user or 'somebody'}",
            f"pid {self.pid}" + (f" ({self.command})" if self.command else ""),
            "" if self.age_s is None else age_text(self.age_s),
            "" if self.memory_mib is None else memory_text(self.memory_mib),
            "not a run",
        ]
        return f"{gpu}: {', '.join(filter(None, facts))}"

    def remedy(self, *, on_yard: bool) -> str:
        """What frees the GPU."""
        if not self.pid:
            return f"wait until it is released, or ask {self.user}"
        end = f"wait until process {self.pid} ends, or ask {self.user or 'its user'}"
        return f"{end}; `gpuyard up --share-with-others` gives such GPUs out all the same" if on_yard else end

    def to_json(self) -> dict[str, Any]:
        """All that the annotation has."""
        return {name: value for name, value in asdict(self).items() if name != "age_s"}


def yard_text(user: str, home: str, run: str, since: str) -> str:
    """`the yard of alice (/home/alice/.gpuyard), run train, since 2026-11-29 14:02 UTC`."""
    when = f", since {since[:10]} {since[11:16]} UTC" if since else ""
    return f"the yard of {user}" + (f" ({home})" if home else "") + (f", run {run}" if run else "") + when


def memory_text(mib: int) -> str:
    """`21 GiB`; MiB below one."""
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.0f} GiB"


def age_text(seconds: float) -> str:
    """`3 h`: in the largest unit of which there are two."""
    size, unit = next((each for each in _UNITS if seconds >= 2 * each[0]), _UNITS[-1])
    return f"{seconds // size:.0f} {unit}"


def format_occupants(occupants: Iterable[Occupant]) -> str:
    """The annotation's value; empty when there are none."""
    texts: list[str] = []
    left = _MAX_BYTES
    for each in islice(occupants, _MAX_OCCUPANTS):
        text = json.dumps(each.to_json(), separators=(",", ":"))
        left -= len(text)
        # Another user may have made it long: what is over the limit of annotations isn't written at all.
        if left < 0:
            break
        texts.append(text)
    return f"[{','.join(texts)}]" if texts else ""


def node_occupants(
    node: Mapping[str, Any], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> tuple[Occupant, ...]:
    """Who else is on the GPUs of a node, as its annotation says; what isn't readable there is left out."""
    try:
        raw = json.loads(annotations_of(node).get(ANNOTATION_GPU_OCCUPANTS) or "[]")
    except (ValueError, RecursionError):
        return ()
    if not isinstance(raw, list) or not raw:
        return ()
    now = clock()
    found = (_occupant(each, now) for each in raw[:_MAX_OCCUPANTS])
    return tuple(occupant for occupant in found if occupant is not None)


def whole_number(raw: Any) -> int | None:
    """One that counts something; None for anything else, also for one that is too large to be true."""
    return raw if type(raw) is int and 0 <= raw < _MOST else None


def withheld(occupants: Iterable[Occupant]) -> tuple[Occupant, ...]:
    """One of each GPU, or part of one, that isn't given out for them."""
    return tuple({each.uuid: each for each in occupants if each.withheld}.values())


def _occupant(raw: Any, now: datetime) -> Occupant | None:
    if not isinstance(raw, dict) or (index := whole_number(raw.get("index"))) is None:
        return None
    # Anybody who may write nodes may write it, and it goes to terminals.
    texts = {
        name: "".join(filter(str.isprintable, str(raw.get(name) or "")))[:_MAX_LENGTH]
        for name in ("uuid", "user", "since", "command", "home", "run")
    }
    return Occupant(
        index=index,
        pid=whole_number(raw.get("pid")) or 0,
        memory_mib=whole_number(raw.get("memory_mib")),
        withheld=raw.get("withheld") is not False,
        age_s=_age_s(texts["since"], now),
        **texts,
    )


def _age_s(since: str, now: datetime) -> float | None:
    try:
        return max(0.0, (now - parse_time(since)).total_seconds())
    except ValueError:
        return None
