"""Where commands go: `gpuyard use`, --context and --namespace with a cluster and a yard beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.gpuyard_on import CONTEXT, Gpuyard
from tests.cluster.shell import ClusterShell, cluster_shell
from tests.waiting import until

from .conftest import python_image


@pytest.fixture
def shell(gpuyard: Gpuyard) -> Iterator[ClusterShell]:
    """`use` has chosen the cluster, and there is no yard."""
    with cluster_shell(gpuyard.cluster, python_image(gpuyard.cluster)) as shell:
        yield shell


def test_what_use_chose_holds_until_it_is_taken_back(shell: ClusterShell) -> None:
    server = json.loads(shell.cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    said = shell.ok("run", "-d", "-n", "there", "--", "true")
    assert said == ""
    assert [run["name"] for run in shell.json("ps")] == ["there"]
    assert f"API:         {server}\n" in shell.ok("status")
    # For one command another context may be named.
    assert "the yard is stopped" in shell.refused(1, "ps", "--context", "yard")
    assert "the yard is stopped" in shell.refused(1, "status", "--context", "yard")
    said = shell.refused(2, "ps", "--context", "elsewhere")
    assert "elsewhere" in said and CONTEXT in said
    shell.ok("use", "yard")
    assert "the yard is stopped" in shell.refused(1, "ps")
    assert shell.ok("use", CONTEXT) == f"Commands go to {CONTEXT} ({server}).\n"
    assert [run["name"] for run in shell.json("ps")] == ["there"]


def test_commands_that_are_told_go_where_this_one_went(shell: ClusterShell) -> None:
    shell.ok("use", "yard")
    there = ("--context", CONTEXT, "--namespace", shell.namespace)
    words = " ".join(there)
    said = shell.call("run", *there, "-d", "-n", "told", "--", "sleep", "600").err
    assert f"Attach: gpuyard logs -f told {words}\n" in said
    said = shell.refused(2, "run", *there, "-n", "told", "--", "true")
    assert f"`gpuyard show told {words}`" in said
    until(lambda: shell.json("show", "told", *there)["state"] == "running", "it runs")
    assert f"`gpuyard stop told {words}`" in shell.refused(2, "rm", "told", *there)
    assert shell.json("ps", "-A", "--context", CONTEXT)[-1].keys() > {"namespace", "name"}
    shell.ok("rm", "--force", "told", *there)
    assert json.loads(shell.ok("ps", "-o", "json", *there)) == []


def test_a_namespace_that_is_not_there(shell: ClusterShell) -> None:
    said = shell.refused(2, "run", "--namespace", "missing", "--", "true")
    assert "there is no namespace 'missing'" in said
