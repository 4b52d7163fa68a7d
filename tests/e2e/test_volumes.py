"""Volumes: what a run writes stays for the next one, and goes when its claim is removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Yard
from .shell import Shell

SPEC = """
run: [sh, -c, "echo again >> /tmp/out/log; cat /tmp/out/log"]
volumes:
  /tmp/out: {claim: results, size: 1Gi}
"""


@pytest.mark.usefixtures("storage")
def test_a_claim_is_made_kept_over_runs_and_removed(target: Shell) -> None:
    target.script("spec.yaml", SPEC)
    first = target.call("run", "-f", "spec.yaml", "-n", "first")
    assert (first.code, first.out) == (0, "again\n"), first.err
    assert "Made claim results of 1Gi" in first.err
    target.ok("rm", "first")
    assert target.call("run", "-f", "spec.yaml", "-n", "second").out == "again\nagain\n"
    read = (
        "--volume",
        "/tmp/in=results:ro",
        "--",
        "sh",
        "-c",
        "cat /tmp/in/log; touch /tmp/in/x 2>/dev/null",
    )
    third = target.call("run", "-n", "third", *read)
    assert (third.code, third.out) == (1, "again\nagain\n")

    target.background("holds", "--volume", "/tmp/in=results", "--", "sleep", "600")
    [claim] = json.loads(target.ok("volume", "ls", "-o", "json"))
    assert (claim["name"], claim["state"], claim["used_by"]) == ("results", "bound", ["holds"])
    refused = target.call("volume", "rm", "results")
    assert refused.code == 2
    assert "claim results is used by holds" in refused.err
    target.ok("stop", "holds", "--grace", "0s") if isinstance(target, Yard) else target.ok("stop", "holds")
    held = target.call("volume", "rm", "results")
    assert held.code == 2
    assert "claim results is held by holds, second, third, which ended and weren't removed" in held.err
    target.ok("rm", "holds", "second", "third")
    assert target.ok("volume", "rm", "results") == "Removed results.\n"
    assert json.loads(target.ok("volume", "ls", "-o", "json")) == []


@pytest.mark.usefixtures("storage")
def test_what_does_not_fit_is_refused_before_the_submit(target: Shell) -> None:
    missing = target.call("run", "--volume", "/tmp/x=nothing", "--", "true")
    assert missing.code == 2
    assert "there is no claim 'nothing'" in missing.err
    assert "size: 10Gi" in missing.err
    target.script("small.yaml", SPEC)
    target.script("large.yaml", SPEC.replace("1Gi", "9Gi"))
    target.ok("run", "-f", "small.yaml", "-n", "small")
    larger = target.call("run", "-f", "large.yaml")
    assert larger.code == 2
    assert "claim results has 1Gi, and the run asks for 9Gi" in larger.err
    target.ok("rm", "small")
    target.ok("volume", "rm", "results")


def test_a_folder_of_this_machine_is_mounted_where_there_is_none(yard: Yard, tmp_path: Path) -> None:
    """Also at a path whose first folder the machine hasn't, outer and inner."""
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    for folder in (outer, inner):
        folder.mkdir()
    place = f"/{tmp_path.name}-nowhere"
    words = ("sh", "-c", f"echo a > {place}/a; echo b > {place}/b/b; test -d /usr/bin")
    yard.ok("run", "--volume", f"{place}/b={inner}", "--volume", f"{place}={outer}", "--", *words)
    assert (outer / "a").read_text() == "a\n"
    assert (inner / "b").read_text() == "b\n"
    assert not Path(place).exists()
    for source, said in ((f"{outer}/no", "isn't there"), (str(outer / "a"), "is a file")):
        refused = yard.call("run", "--volume", f"/x={source}", "--", "true")
        assert refused.code == 2
        assert said in refused.err
    nowhere = yard.call("run", "--volume", f"/usr/{tmp_path.name}/x={outer}", "--", "true")
    assert "can't have a volume at" in nowhere.err


def test_explain_names_the_claim_that_is_missing(yard: Yard) -> None:
    yard.script("spec.yaml", SPEC)
    manifest = yard.ok("run", "-f", "spec.yaml", "-n", "waits", "--dry-run")
    job = manifest.partition("---\n")[2]
    yard.kubectl("create", "-f", str(yard.script("job.yaml", job)))
    told = yard.ok("explain", "waits")
    assert "there is no PersistentVolumeClaim results in namespace default" in told
