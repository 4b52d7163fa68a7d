from __future__ import annotations

from typing import Any

import pytest

from gpuyard.errors import SpecError
from gpuyard.workloads.spec.overrides import Flag, FlagForm
from gpuyard.workloads.spec.run_spec import load_spec
from gpuyard.workloads.sweeps.values import Sweep, ValueTable, check_sweep, parse_table, parse_values


@pytest.mark.parametrize(
    ("written", "values"),
    [("1e-3,1e-4", ("1e-3", "1e-4")), ("1..3", ("1", "2", "3")), ("-1..+1", ("-1", "0", "1")),
     ("7", ("7",)), ('"a,b",c', ("a,b", "c")), ('"say ""hi"""', ('say "hi"',)), ('"a\nb",c', ("a\nb", "c")),
     ("1.0..2", ("1.0..2",)), (["1..3", "", "a,b"], ("1..3", "", "a,b"))],
)  # fmt: skip
def test_values(written: Any, values: tuple[str, ...]) -> None:
    assert parse_values(written) == values


@pytest.mark.parametrize(
    ("written", "message"),
    [("", "no task"), ("  ", "no task"), ([], "no task"), ("1,,2", "an empty value"),
     ('"a', "no line of CSV"),     ('"a"b', "no line of CSV"), ("a\nb", "new line"),
     ("3..1", "write the smaller number first"),
     ("1..1000000", "1000000 values; a sweep has 100000 tasks at most"), ({"a": "b"}, "must be values"),
     (["a\0"], "a byte 0"), ("1,2,1", "has '1' 2 times: tasks that are the same"), (["", ""], "has '' 2")],
)  # fmt: skip
def test_wrong_values(written: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_values(written)


def test_a_table() -> None:
    assert parse_table('lr, name\n0.1,"a,b"\n\n0.2,"c\nd"\n') == ValueTable(
        ("lr", "name"), (("0.1", "a,b"), ("0.2", "c\nd"))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "has no tasks"), ("lr\n", "has no tasks"), ("a b\n1\n", "line 1 is wrong: 'a b' can't name"),
     ("a,a\n1,2\n", "line 1 has a name twice"), ("a,b\n1\n", "line 2 has 1 values, and the first line has 2"),
     ("a,b\n1,2\n\n1,3\n1,2\n", "line 5 has the values of line 2: tasks that are the same"),
     ('a\n"1\n', "line 2 is no CSV"), ("a\n1\0\n", "line 2 "), ("GPUYARD_X\n1\n", "gpuyard's own")],
)  # fmt: skip
def test_a_table_that_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_table(text)


def test_a_sweep_is_bounded() -> None:
    numbers = ValueTable(("a",), tuple((str(n),) for n in range(1000)))
    check_sweep(Sweep((numbers, ValueTable(("b",), (("1",),) * 100))))
    with pytest.raises(ValueError, match=r"1000 × 101 = 101000 tasks; a sweep has 100000 at most"):
        check_sweep(Sweep((numbers, ValueTable(("b",), (("1",),) * 101))))
    with pytest.raises(ValueError, match=r"its values have 2000\d\d bytes together, and a process can be"):
        check_sweep(Sweep((ValueTable(("a",), (("x" * 200_000,),)),)))
    with pytest.raises(ValueError, match="a is swept twice"):
        check_sweep(Sweep((numbers, numbers)))


def test_in_a_spec() -> None:
    flags = [Flag("--sweep", ("sweep",), "seed=1..2", FlagForm.ENTRY)]
    spec = load_spec("run: a\nsweep: {lr: [0.1, 0.2], seed: 5}\n", "spec", flags, {})
    assert spec.sweep == Sweep(
        (ValueTable(("lr",), (("0.1",), ("0.2",))), ValueTable(("seed",), (("1",), ("2",))))
    )


@pytest.mark.parametrize(
    ("flags", "where", "message"),
    [(("lr=1", "lr=2"), "--sweep", "lr is given twice; write all of its values at once, such as --sweep lr="),
     (("lr=",), "--sweep lr", "has no values"), (("lr=,",), "--sweep lr", "an empty value"),
     (("lr=1,1",), "--sweep lr", "has '1' 2 times"), (("s eed=1",), "--sweep s eed", "'s eed' can't name"),
     (("=1",), "--sweep", "'=1' has no name; write NAME=VALUES"),
     (("1,2",), "--sweep", "'1,2' has no value; write NAME=VALUES")],
)  # fmt: skip
def test_what_a_flag_gets_wrong(flags: tuple[str, ...], where: str, message: str) -> None:
    laid = [Flag("--sweep", ("sweep",), text, FlagForm.ENTRY_LIST, "NAME=VALUES") for text in flags]
    with pytest.raises(SpecError) as raised:
        load_spec("run: a\n", "spec", laid, {})
    [problem] = raised.value.problems
    assert problem.path == where
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [("sweep: {}", "sweep", "no task"), ("sweep: {a-b: 1}", "sweep.a-b", "letters, digits and '_'"),
     ("sweep: {CUDA_VISIBLE_DEVICES: 1}", "sweep.CUDA_VISIBLE_DEVICES", "gpuyard's own"),
     ("sweep: {a: 1}\nnodes: 2", "nodes", "one pod each"), ("at_once: 2", "at_once", "add `sweep`"),
     ("sweep: {a: 1}\nat_once: 0", "at_once", "at least 1")],
)  # fmt: skip
def test_what_a_spec_gets_wrong(text: str, where: str, message: str) -> None:
    with pytest.raises(SpecError) as raised:
        load_spec(f"run: a\n{text}\n", "spec", (), {})
    [problem] = raised.value.problems
    assert problem.path == where
    assert message in problem.message
