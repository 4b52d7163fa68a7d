"""A service's spec, kept and read again."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.wellknown import ANNOTATION_SPEC
from gpuyard.workloads.spec.overrides import Flag, FlagForm
from gpuyard.workloads.spec.run_spec import RunSpec, load_spec
from gpuyard.workloads.spec.service.stored import StoredSpec

FILE = """
name: digits
image: registry.example/digits:1
run: [python, serve.py, "a b", on, "1e-3"]
env:
  TOKEN:
  HOME_OF: /home/${USER}
  LITERAL: $${USER}
tolerations: [{key: a, operator: Exists}]
volumes: {/data: imagenet:ro}
service:
  port: 8000
  replicas: 1..8
  liveness: [python, check.py]
  target: {p99: 800ms, inflight: null}
"""
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def kept(spec: RunSpec) -> StoredSpec:
    manifest = {"metadata": {"annotations": {ANNOTATION_SPEC: StoredSpec(spec.written, "/work").annotation}}}
    found = StoredSpec.of(manifest)
    assert found is not None and found.folder == "/work"
    return found


def again(spec: RunSpec) -> RunSpec:
    """Where no variable of the shell is set any more."""
    return load_spec(kept(spec).text, "kept", (), {})


def test_it_is_the_same_when_it_is_read_again_in_another_shell() -> None:
    flags = [
        Flag("--gpus", ("resources", "gpus"), "H100:2"),
        Flag("--env", ("env",), "X=${Y}", FlagForm.ENTRY),
    ]
    spec = load_spec(FILE, "file", flags, {"TOKEN": "t${x}", "USER": "ada"})
    assert spec.env == {"TOKEN": "t${x}", "HOME_OF": "/home/ada", "LITERAL": "${USER}", "X": "${Y}"}
    assert dataclasses.replace(again(spec), written="") == dataclasses.replace(spec, written="")


@given(st.dictionaries(st.from_regex(r"[A-OQ-Z]{1,5}", fullmatch=True), TEXT), TEXT.filter(str.strip))
def test_any_text_comes_through(env: dict[str, str], word: str) -> None:
    flags = [
        Flag("the command", ("run",), ("python", word)),
        Flag("--port", ("service", "port"), "8000"),
        *(Flag(f"env {name}", ("env", name), text) for name, text in env.items()),
    ]
    spec = load_spec(None, "flags", flags, {})
    assert (again(spec).env, again(spec).run) == (env, ("python", word))


def test_a_run_keeps_nothing() -> None:
    assert load_spec("run: x y", "file", (), {}).written == ""


def test_another_number_of_replicas() -> None:
    spec = load_spec("run: x y\nservice: {port: 1, replicas: 2}", "file", (), {})
    service = load_spec(kept(spec).with_replicas(5).text, "kept", (), {}).service
    assert service is not None and (service.least, service.most) == (5, 5)


def test_an_earlier_spec_takes_over_the_present_scaling() -> None:
    then = load_spec("run: old y\nservice: {port: 1, replicas: 1..4, target: {inflight: 1}}", "file", (), {})
    now = load_spec("run: new y\nservice: {port: 2, replicas: 6}", "file", (), {})
    merged = load_spec(kept(then).with_scaling_of(kept(now)).text, "kept", (), {})
    assert merged.run == "old y" and merged.service is not None
    assert (merged.service.port, merged.service.least, merged.service.target) == (2, 6, None)


def test_what_somebody_spoilt_is_none() -> None:
    for text in ("", "[]", "{", '{"folder": 1, "spec": {"service": {}}}', '{"folder": "", "spec": []}'):
        assert StoredSpec.of({"metadata": {"annotations": {ANNOTATION_SPEC: text}}}) is None
    assert StoredSpec.of({"metadata": {}}) is None
