"""`.dockerignore` against the tables of github.com/moby/patternmatcher (patternmatcher_test.go)."""

from __future__ import annotations

import pytest

from gpuyard.building.workdir.dockerignore import DockerIgnore

#: TestMatches: pattern, path, whether it or a folder above it matches.
MATCHES = """
** file 1, **/ file 1, ** dir/file 1, **/ dir/file 1, **/** dir/file 1, dir/** dir/file 1,
dir/** dir/dir2/file 1, **/dir dir 1, **/dir dir/file 1, **/dir2/* dir/dir2/file 1,
**/dir2/** dir/dir2/dir3/file 1, **file file 1, **file dir/file 1, **/file dir/file 1,
**file dir/dir/file 1, **/file dir/dir/file 1, **/file* dir/dir/file 1, **/file* dir/dir/file.txt 1,
**/file*txt dir/dir/file.txt 1, **/file*.txt dir/dir/file.txt 1, **/file*.txt* dir/dir/file.txt 1,
**/**/*.txt dir/dir/file.txt 1, **/**/*.txt2 dir/dir/file.txt 0, **/*.txt file.txt 1, **/**/*.txt file.txt 1,
a**/*.txt a/file.txt 1, a**/*.txt a/dir/file.txt 1, a**/*.txt a/dir/dir/file.txt 1, a/*.txt a/dir/file.txt 0,
a/*.txt a/file.txt 1, a/*.txt** a/file.txt 1, a[b-d]e ae 0, a[b-d]e ace 1, a[b-d]e aae 0, a[^b-d]e aze 1,
.* .foo 1, .* foo 0, abc.def abcdef 0, abc.def abc.def 1, abc.def abcZdef 0, abc?def abcZdef 1,
abc?def abcdef 0, **/foo/bar foo/bar 1, **/foo/bar dir/foo/bar 1, **/foo/bar dir/dir2/foo/bar 1, abc/** abc 0,
abc/** abc/def 1, abc/** abc/def/ghi 1, **/.foo .foo 1, **/.foo bar.foo 0, a(b)c/def a(b)c/def 1,
a(b)c/def a(b)c/xyz 0, a.|)$(}+{bc a.|)$(}+{bc 1, dist/*.whl dist/proxy.py-2.4.0rc3.dev36+g08acad9.whl 1,
a\\\\ a\\ 1, a\\*b a*b 1,
abc abc 1, * abc 1, *c abc 1, a* a 1, a* abc 1, a* ab/c 1, a*/b abc/b 1, a*/b a/c/b 0,
a*b*c*d*e*/f axbxcxdxe/f 1, a*b*c*d*e*/f axbxcxdxexxx/f 1, a*b*c*d*e*/f axbxcxdxe/xxx/f 0,
a*b*c*d*e*/f axbxcxdxexxx/fff 0, a*b?c*x abxbbxdbxebxczzx 1, a*b?c*x abxbbxdbxebxczzy 0, ab[c] abc 1,
ab[b-d] abc 1, ab[e-g] abc 0, ab[^c] abc 0, ab[^b-d] abc 0, ab[^e-g] abc 1, a\\*b ab 0, a?b a☺b 1,
a[^a]b a☺b 1, a???b a☺b 0, a[^a][^a][^a]b a☺b 0, [a-ζ]* α 1, *[a-ζ] A 0, a?b a/b 0, a*b a/b 0, [\\]a] ] 1,
[\\-] - 1, [x\\-] x 1, [x\\-] - 1, [x\\-] z 0, [\\-x] x 1, [\\-x] - 1, [\\-x] a 0, *x xxx 1
"""


@pytest.mark.parametrize("case", [case.split() for case in MATCHES.split(",")])
def test_one_pattern(case: list[str]) -> None:
    pattern, path, expected = case
    verdict = DockerIgnore.parse(pattern).verdict(path)
    assert verdict == ((True, f"1: {pattern}") if expected == "1" else None)


@pytest.mark.parametrize(
    ("patterns", "path", "stays_out"),
    [
        (["**", "!util/docker/web"], "util/docker/web/foo", False),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
        (["**", "!dist/*.whl"], "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", False),
        (["!fileutils.go", "*.go"], "fileutils.go", True),
        (["*.go", "!fileutils.go"], "fileutils.go", False),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["docs/", "!docs/README.md"], "docs/README.md", False),
        (["docs/*", "!docs/README.md"], "docs/README.md", False),
        (["docs", "  !docs/README.md  "], "docs/README.md", False),
        # A pattern without a slash isn't one of every folder, as git's is.
        (["*.log"], "sub/a.log", None),
        (["/test2"], "test2", True),
        (["! /inverted", "inverted", "! /inverted/abs/path"], "inverted/abs/path", False),
        (["./a//b/../c/"], "a/c/d", True),
        (["# x", "", "#x"], "x", None),
        # What is left of a line after its slash is trimmed again, and may be taken back, too.
        (["/ **"], "a/b", True),
        (["*", "/!a"], "a", False),
        # A bracket that closes nothing makes `**` at the beginning match folders only.
        (["**a]"], "xa]", None),
        # Only a line that begins with it is a comment.
        ([" #x"], "#x", True),
    ],
)
def test_several_patterns(patterns: list[str], path: str, stays_out: bool | None) -> None:
    verdict = DockerIgnore.parse("\ufeff" + "\n".join(patterns)).verdict(path)
    assert (verdict and verdict[0]) == stays_out


def test_the_line_that_decides_is_told() -> None:
    assert DockerIgnore.parse("# all\n*\n\n!src\nsrc/*.log\n").verdict("src/a.log") == (True, "5: src/*.log")


@pytest.mark.parametrize(
    "pattern",
    ["!", "! ", "!/", "/!", "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[z-a]"],
)
def test_what_is_no_pattern_is_named_with_its_line(pattern: str) -> None:
    with pytest.raises(ValueError, match="line 2: "):
        DockerIgnore.parse(f"a\n{pattern}")


@pytest.mark.parametrize(
    ("patterns", "folder", "expected"),
    [
        ("docs\n!docs/a/README.md", "docs", True),
        ("docs\n!docs/a/README.md", "docs/a", True),
        ("docs\n!docs/a/README.md", "docs/b", False),
        ("*\n!README.md", "node_modules", False),
        ("*\n!*.md", "node_modules", False),
        ("*\n!*/*.md", "docs", True),
        ("*\n!*/*.md", "docs/inner", False),
        ("*\n!**/*.md", "docs/inner", True),
        ("*\n!src/*/x", "src", True),
        ("*\n!src/*/x", "lib", False),
        ("*\n!s*/x", "src", True),
        ("*\n", "src", False),
    ],
)
def test_a_folder_is_entered_where_something_may_come_back(
    patterns: str, folder: str, expected: bool
) -> None:
    assert DockerIgnore.parse(patterns).may_take_back_below(folder) == expected
