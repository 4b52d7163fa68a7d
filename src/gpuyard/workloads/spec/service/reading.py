"""What the key `service` may hold, and the value that it is read to (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from gpuyard.advice import advice
from gpuyard.workloads.spec.schema import Fields, Findings, text, value, whole_number
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, Probe, ServiceSpec
from gpuyard.workloads.spec.text_tree import Node, Path
from gpuyard.workloads.spec.time_spans import parse_span

#: Of one service; more than any cluster takes, as typing errors are.
MAX_REPLICAS = 1000

_MAX_DRAIN = timedelta(hours=24)
_MAX_ZERO_AFTER = timedelta(days=30)
_NUMBER = r"(?a)\d{1,9}(?:\.\d{1,3})?"
#: A path of HTTP: no space, no control character, nothing that begins a query's end.
_PATH = r"(?a)/[!-\"$-~]*"


class ReplicaRange(NamedTuple):
    """Between which numbers of replicas a service has."""

    least: int
    most: int


def parse_replicas(written: str) -> ReplicaRange:
    """Reads `3` or `1..8`.

    Raises:
        ValueError: it is neither.
    """
    found = re.fullmatch(r"(?a)([0-9]{1,6})(?:\.\.([0-9]{1,6}))?", written.strip())
    if found is None:
        raise ValueError(f"must be a whole number, or two as in 1..8, not {written!r}")
    least, most = int(found[1]), int(found[2] or found[1])
    if least < 1:
        raise ValueError(
            advice("must be at least 1; scale_to_zero (--scale-to-zero) lets it have none without requests")
            if most
            else "must be at least 1"
        )
    if least > most:
        raise ValueError(f"must begin with the smaller one, not {written.strip()}")
    if most > MAX_REPLICAS:
        raise ValueError(f"must be at most {MAX_REPLICAS}, not {written.strip()}")
    return ReplicaRange(least, most)


def _parse_probe(written: Any) -> Probe:
    if isinstance(written, list):
        if not written or not all(isinstance(word, str) and word for word in written):
            raise ValueError("must be a path such as /healthz, tcp, or a command as a list of words")
        return Probe(command=tuple(written))
    if written == "tcp":
        return Probe()
    if not isinstance(written, str):
        raise ValueError("must be a path such as /healthz, tcp, or a command as a list of words")
    if not written.startswith("/"):
        hint = f"; write /{written}" if re.fullmatch(_PATH, f"/{written}") and written else ""
        raise ValueError(f"{written!r} must begin with a slash, or be tcp{hint}")
    if not re.fullmatch(_PATH, written):
        raise ValueError(f"{written!r} is no path of HTTP: it has a space, a # or a letter beyond ASCII")
    return Probe(written)


def _span(least: timedelta, most: timedelta) -> Callable[[str], timedelta]:
    def parse(written: str) -> timedelta:
        found = parse_span(written)
        if not least <= found <= most:
            from gpuyard.workloads.spec.time_spans import format_span

            raise ValueError(f"{written!r} must be from {format_span(least)} to {format_span(most)}")
        return found

    return parse


def _amount(unit: str, example: str) -> Callable[[str], Decimal]:
    def parse(written: str) -> Decimal:
        if not re.fullmatch(_NUMBER, written.strip()) or not Decimal(written):
            raise ValueError(f"{written!r} is no number of {unit} above 0; write for example {example}")
        return Decimal(written)

    return parse


def _percent(written: str) -> Decimal:
    number = written.strip().removesuffix("%").strip()
    if not re.fullmatch(r"(?a)\d{1,3}", number) or not 1 <= int(number) <= 100:
        raise ValueError(f"{written!r} is no percentage from 1 to 100; write for example 70")
    return Decimal(number)


def _latency(written: str) -> Decimal:
    found = re.fullmatch(r"(?a)(\d{1,6}(?:\.\d{1,3})?)(ms|s)", written.strip())
    if found is None or not Decimal(found[1]):
        raise ValueError(f"{written!r} is no time of an answer; write for example 800ms or 2s")
    seconds = Decimal(found[1]) / (1000 if found[2] == "ms" else 1)
    if seconds * 1000 % 1:
        raise ValueError(f"{written!r} has a fraction of a millisecond; write for example 2ms or 800ms")
    return seconds


def _query(written: str) -> str:
    if not written.strip():
        raise ValueError('is empty; write PromQL, such as sum(requests_in_flight{app="serve"})')
    return written.strip()


def _change(written: str) -> int | str:
    """A number of replicas or a percentage, as Kubernetes has it."""
    found = re.fullmatch(r"(?a)(\d{1,4})(%?)", written.strip())
    if found is None or (found[2] and int(found[1]) > 100):
        raise ValueError(f"{written!r} is no number of replicas; write for example 1, or a percentage as 25%")
    return f"{int(found[1])}%" if found[2] else int(found[1])


_MEASURES = ", ".join(Measure)


def _check_target(found: Mapping[str, Any]) -> None:
    measures = [measure for measure in Measure if measure in found]
    if len(measures) != 1:
        seen = f", not {' and '.join(measures)}" if measures else ""
        raise ValueError(f"needs exactly one of {_MEASURES}{seen}")
    if (Measure.QUERY in found) != ("value" in found):
        raise ValueError(
            advice("query needs value (--target-value): how much of it one replica takes")
            if Measure.QUERY in found
            else "only query has a value; the others are numbers themselves"
        )


_TARGET = Fields(
    {
        Measure.INFLIGHT: text(_amount("requests", "4")),
        Measure.REQUESTS_PER_SECOND: text(_amount("requests per second", "20")),
        Measure.GPU_UTILIZATION: text(_percent),
        Measure.P99: text(_latency),
        Measure.QUERY: text(_query),
        "value": text(_amount("the query's unit", "10")),
    },
    check=_check_target,
)
_FIELDS = Fields(
    {
        "port": whole_number(1, 65535),
        "replicas": text(parse_replicas),
        "readiness": value(_parse_probe),
        "liveness": value(_parse_probe),
        "drain": text(_span(timedelta(seconds=1), _MAX_DRAIN)),
        "target": _TARGET,
        "scale_to_zero": text(_span(timedelta(seconds=1), _MAX_ZERO_AFTER)),
        "max_surge": text(_change),
        "max_unavailable": text(_change),
    },
    required={"port": "where the program listens isn't said; write for example port: 8000"},
)
#: The keys of `service`, and those of `service.target`.
KEYS, TARGET_KEYS = tuple(_FIELDS.keys), tuple(_TARGET.keys)


def read_service(node: Node, path: Path, findings: Findings) -> ServiceSpec | None:
    """The service; None, with what is wrong told, where it is none."""
    before = len(findings.all)
    found = _FIELDS(node, path, findings)
    if len(findings.all) > before:
        return None
    for key, message in _disagreements(found):
        findings.add((*path, key), message)
    replicas = found.pop("replicas", ReplicaRange(1, 1))
    target = found.pop("target", None)
    return ServiceSpec(
        **found,
        least=replicas.least,
        most=replicas.most,
        target=_load_target(target) if target else None,
    )


def _load_target(found: Mapping[str, Any]) -> LoadTarget:
    [measure] = [measure for measure in Measure if measure in found]
    if measure is Measure.QUERY:
        return LoadTarget(measure, found["value"], found["query"])
    return LoadTarget(measure, found[measure])


def _disagreements(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys that are right for themselves, and not together."""
    replicas, target = found.get("replicas", ReplicaRange(1, 1)), found.get("target")
    is_range = replicas.least < replicas.most
    wrong: list[tuple[str, str]] = []
    if is_range and not target:
        wrong.append(("replicas", advice("a range needs target: what decides how many there are, such as "
                                         "target: {inflight: 4} (--target-inflight 4)")))  # fmt: skip
    if target and not is_range:
        wrong.append(("target", advice("decides nothing while the number of replicas is fixed; "
                                       "write replicas: 1..8 (--replicas), or leave it out")))  # fmt: skip
    if "scale_to_zero" in found:
        if not is_range or replicas.least != 1:
            wrong.append(
                ("scale_to_zero", advice("needs replicas in a range from 1, such as 1..8 (--replicas)"))
            )
        if target and Measure.GPU_UTILIZATION in target:
            words = (
                "no replica has GPUs to look at then, so none would come back; choose target: {inflight: 4}"
            )
            wrong.append(("scale_to_zero", words))
    if all(found.get(key) in (0, "0%") for key in ("max_surge", "max_unavailable")):
        wrong.append(("max_unavailable", "an update could change nothing with 0 here and 0 in max_surge"))
    return wrong
