from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuyard.workloads.command import (
    CommandLine,
    display,
    needed_script,
    needs_shell,
    reads_standard_input,
    resolve_command,
    split_run,
    subject,
)

PYTHON = "/venv/bin/python3"


@pytest.mark.parametrize(
    ("run", "argv"),
    [
        ("train.py", [PYTHON, "train.py"]),
        ("train.py --epochs 3", [PYTHON, "train.py", "--epochs", "3"]),
        ("python train.py", [PYTHON, "train.py"]),
        ("python3 -u train.py", [PYTHON, "-u", "train.py"]),
        ("python3.11 train.py", ["python3.11", "train.py"]),
        ("/usr/bin/python3 train.py", ["/usr/bin/python3", "train.py"]),
        ("torchrun --nproc_per_node=2 t.py", ["torchrun", "--nproc_per_node=2", "t.py"]),
        ("echo 'a  b' \"c; d\"", ["echo", "a  b", "c; d"]),
        ("train.py lr=0.1 model=a,b", [PYTHON, "train.py", "lr=0.1", "model=a,b"]),
        ("echo a#b a~b", ["echo", "a#b", "a~b"]),
        ("  echo hi\n", ["echo", "hi"]),
        (r"echo a\ b", ["echo", "a b"]),
        (("python", "-c", "print(1); print(2)"), [PYTHON, "-c", "print(1); print(2)"]),
        (("train.py", "a b"), [PYTHON, "train.py", "a b"]),
        (("echo", "a && b"), ["echo", "a && b"]),
        (("sh", "", "x"), ["sh", "", "x"]),
    ],
)
def test_plain_commands_become_an_argv(run: CommandLine, argv: list[str]) -> None:
    assert list(resolve_command(run, PYTHON)) == argv


@pytest.mark.parametrize(
    "line",
    [
        "a && b", "a | b", "a > b", "a; b", "a &", "echo $HOME", 'echo "$HOME"', "echo `date`", "ls *.py",
        "cd src", "export A=1", "A=1 python train.py", "echo a\necho b", "(a)", "ls ~/x", "a # b", "exec a",
        "ls [ab]", "ls a?", "ls --to=~/x", "ls a=b:~",
    ],
)  # fmt: skip
def test_shell_syntax_goes_to_the_shell_as_it_is(line: str) -> None:
    argv = resolve_command(line, PYTHON)
    assert (argv[0], argv[-1]) == ("/bin/sh", line)


def test_a_shell_line_needs_no_file_and_names_no_run() -> None:
    argv = resolve_command("./a.sh && python b.py", PYTHON)
    assert needed_script(argv) is None
    assert subject(argv) == "run"


@pytest.mark.parametrize(
    ("line", "code", "printed"),
    [
        ("sh -c 'exit 3' | cat", 3, ""),
        ("false; echo on", 1, ""),
        ("[[ a == a ]] && echo {1..3}", 0, "1 2 3\n"),
        ("set -o pipefail; true | echo $0", 0, None),
        ("source /dev/null; echo there", 0, "there\n"),
    ],
)
def test_shell_lines_are_bash_s_where_bash_is(line: str, code: int, printed: str | None) -> None:
    done = subprocess.run(resolve_command(line, None), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert printed is None or done.stdout == printed


def test_without_bash_sh_runs_the_line_and_says_so(tmp_path: Path) -> None:
    argv = resolve_command("echo a && (exit 4); echo never", None)
    done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": str(tmp_path)}, check=False)
    assert (done.returncode, done.stdout) == (4, "a\n")
    assert done.stderr.count("no bash here") == 1


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", ["bash", "-eo", "pipefail"]),
        ("/bin/zsh", ["/bin/zsh", "-eo", "pipefail"]),
        ("sh", ["sh", "-e"]),
        ("bash -l", ["bash", "-l"]),
        ("'/my shells/fish'", ["/my shells/fish"]),
    ],
)
@pytest.mark.parametrize("line", ["a | b", "train.py", "python a.py"])
def test_a_chosen_shell_gets_every_line_as_it_stands(shell: str, words: list[str], line: str) -> None:
    argv = resolve_command(line, PYTHON, shell)
    assert list(argv) == [*words, "-c", line]
    assert needed_script(argv) == (words[0] if "/" in words[0] else None)
    assert not reads_standard_input(argv)


def test_a_chosen_shell_leaves_words_alone() -> None:
    assert resolve_command(("python", "a.py"), PYTHON, "bash") == (PYTHON, "a.py")


@pytest.mark.parametrize(
    "line", ["echo '$HOME'", r"echo \$HOME", r'echo "\$HOME"', "echo 'a\tb'", 'echo "a\'b"']
)
def test_quoted_syntax_is_plain(line: str) -> None:
    assert not needs_shell(line)


@pytest.mark.parametrize("run", ["", "  \n", (), ("",), "''", "echo 'a", 'echo "a', "a\\"])
def test_what_is_no_command(run: CommandLine) -> None:
    with pytest.raises(ValueError, match=r"nothing to run|not a command line"):
        resolve_command(run, PYTHON)


def test_an_image_decides_its_own_python() -> None:
    assert resolve_command("train.py", None) == ("python3", "train.py")
    assert resolve_command("python train.py", None) == ("python", "train.py")
    assert resolve_command("train.py", "/opt/conda/bin/python") == ("/opt/conda/bin/python", "train.py")


@pytest.mark.parametrize(
    ("argv", "script"),
    [
        ("python train.py --config x.py", "train.py"),
        ("/v/bin/python3.11 -u -X dev -W error train", "train"),
        ("python -m http.server", None),
        ("python -c pass train.py", None),
        ("python -m torch.distributed.run --nproc_per_node=2 ddp.py", "ddp.py"),
        ("python", None),
        ("python -", None),
        ("torchrun --nproc_per_node=2 src/ddp.py --lr 1", "src/ddp.py"),
        ("torchrun -m package.module", None),
        ("accelerate launch x.py", "x.py"),
        ("./run.sh a", "./run.sh"),
        ("nvidia-smi", None),
    ],
)
def test_the_file_that_a_command_needs(argv: str, script: str | None) -> None:
    assert needed_script(argv.split()) == script


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ("python train.py", "train.py"),
        ("python -m package.train", "train"),
        ("torchrun ddp.py", "ddp.py"),
        ("nvidia-smi -L", "nvidia-smi"),
    ],
)
def test_what_a_run_is_named_after(argv: str, word: str) -> None:
    assert subject(argv.split()) == word


def test_display_is_one_line() -> None:
    assert display("echo a\n  echo b\n") == "echo a echo b"
    assert display(("python", "-c", "print(1)")) == "python -c 'print(1)'"


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab '\"\\$`;|&<>()*?[]~#=!{}\n\t-"), max_size=12))
def test_splitting_a_plain_line_is_what_the_shell_would_do(tail: str) -> None:
    line = f"printf %s.. a{tail}"
    if needs_shell(line):
        return
    try:
        argv = resolve_command(line, PYTHON)
    except ValueError:
        return
    direct = subprocess.run(argv, capture_output=True, check=True).stdout
    shell = subprocess.run(["bash", "-ec", line], capture_output=True, check=True).stdout
    assert direct == shell


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_a_quoted_argv_is_split_back(words: list[str]) -> None:
    line = shlex.join(["printf", *words])
    assert list(resolve_command(line, None)) == ["printf", *words] or needs_shell(line)


@pytest.mark.parametrize(
    ("line", "reads"),
    [
        ("bash", True),
        ("/bin/bash -i -l", True),
        ("python3.11 -u", True),
        ("python -", True),
        ("bash -c true", False),
        ("sh -ec true", False),
        ("bash job.sh", False),
        ("python -m http.server", False),
        ("python --version", False),
        ("nvidia-smi", False),
    ],
)
def test_what_reads_its_commands_from_standard_input(line: str, reads: bool) -> None:
    assert reads_standard_input(split_run(line)) == reads
