from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.python.resolving.requirements_file import Requirements
from gpuyard.building.python.wheels import Wheel


def test_files_that_include_others(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "r.txt").write_text("-r sub/a.txt\n-c c.txt # why\nPyYAML>=5 \\\n  --hash=sha256:00\n")
    (tmp_path / "sub/a.txt").write_text("torch\n-r ../r.txt\n")
    (tmp_path / "c.txt").write_text("numpy<2  # a comment\n")
    names = [path.name for path in Requirements(tmp_path / "r.txt", {}).files()]
    assert names[:3] == ["r.txt", "a.txt", "c.txt"]
    assert Requirements(tmp_path / "r.txt", {}).asked() == {
        "pyyaml": ["PyYAML>=5"],
        "torch": ["torch"],
        "numpy": ["numpy<2"],
    }


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="No such file"):
        Requirements(tmp_path / "requirements.txt", {}).files()


SHA = "--hash=sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"a==1 {SHA}\nb==1\n", "wants hashes, and there is none for: b==1"),
        ("--require-hashes\na==1\nb\n", "there is none for: a==1, b"),
        (f"a==1 {SHA}\n-e .\n", "there is none for: -e ."),
        (f"a==1 {SHA}\n./dist/b-1-py3-none-any.whl\n", "there is none for: ./dist/b-1"),
        (f"a==1 {SHA}\n-r more.txt\n", "there is none for: more==1"),
        (f"a>=1 {SHA}\n", "name no version that they could be of: a>=1"),
        (f"a==1.* {SHA}\n", r"could be of: a==1\.\*"),
        (f"a {SHA}\nb==1 {SHA}", r"could be of: a\n"),
    ],
)
def test_hashes_are_for_all_or_for_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "more.txt").write_text("more==1\n")
    (tmp_path / "r.txt").write_text(text)
    with pytest.raises(errors.UsageError, match=words):
        Requirements(tmp_path / "r.txt", {}).check_hashes_given()


@pytest.mark.parametrize(
    "text",
    [
        "a\nb>=2\n",
        f"--require-hashes\na==1 \\\n    {SHA}\nb===2 {SHA} ; python_version < '4'\n",
        f"a @ https://x.example/a-1-py3-none-any.whl {SHA}\nd/b-1-py3-none-any.whl {SHA}\n-c loose.txt\n",
        "-c hashed.txt\nc==1\n",
    ],
)
def test_hashes_of_all_or_of_none_are_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "loose.txt").write_text("more>1\n")
    (tmp_path / "hashed.txt").write_text(f"c==1 {SHA}\n")
    (tmp_path / "r.txt").write_text(text)
    requirements = Requirements(tmp_path / "r.txt", {})
    requirements.check_hashes_given()
    assert requirements.asked()


def test_what_is_required_in_turn_needs_a_hash_too(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text(f"a==1 {SHA}\n")
    requirements = Requirements(tmp_path / "r.txt", {})
    requirements.check_hashes([Wheel("a-1-py3-none-any.whl", "a" * 64)])
    with pytest.raises(errors.BuildError, match=r"wants hashes, and there is none for b 2"):
        requirements.check_hashes([Wheel("b-2-py3-none-any.whl", "a" * 64)])
    with pytest.raises(errors.BuildError, match=r"has none of the hashes that r\.txt gives for a"):
        requirements.check_hashes([Wheel("a-1-py3-none-any.whl", "b" * 64)])


def test_variables_are_put_in(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/more.txt").write_text("-f https://me:${PASSWORD}@x.example/links\n")
    (tmp_path / "r.txt").write_text("--extra-index-url=https://${HOST}/simple\n-r ${WHERE}/more.txt\n")
    found = Requirements(tmp_path / "r.txt", {"WHERE": "sub", "PASSWORD": "p", "HOST": "y.example"}).indexes()
    assert found == ["https://y.example/simple", "https://me:p@x.example/links"]


@pytest.mark.parametrize("name", ["pyproject.toml", "setup.cfg", "setup.py", "environment.yml", "uv.lock"])
def test_files_in_other_languages_have_no_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("import setuptools  # --hash=sha256:0\n-i https://x.example\n")
    requirements = Requirements(tmp_path / name, {})
    requirements.check_hashes_given()
    assert requirements.asked() == {} and requirements.indexes() == []


@pytest.mark.parametrize(
    "line",
    [
        '-r "inc/more.txt"',
        "-r ${DIR}/more.txt",
        "--requirement='inc/more.txt'",
        "-r inc/more.txt  # why",
        "-r file://{here}/inc/more.txt",
        "# a comment goes not on \\\n-r inc/more.txt",
    ],
)
def test_what_is_included_is_written_as_in_uv(line: str, tmp_path: Path) -> None:
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc/more.txt").write_text('-i "https://x.example/simple"\nnumpy\n')
    (tmp_path / "r.txt").write_text(line.replace("{here}", str(tmp_path)) + "\n")
    requirements = Requirements(tmp_path / "r.txt", {"DIR": "inc"})
    assert [path.name for path in requirements.files()] == ["r.txt", "more.txt"]
    assert requirements.asked() == {"numpy": ["numpy"]}
    assert requirements.indexes() == ["https://x.example/simple"]
