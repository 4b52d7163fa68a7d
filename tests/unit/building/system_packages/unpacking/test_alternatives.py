from __future__ import annotations

import pytest

from gpuyard.building.system_packages.unpacking.alternatives import (
    Alternative,
    AlternativeChoice,
    InstallCall,
    installed_by,
    links_of,
    merge,
)

PAGER = """\
auto
/usr/bin/pager
pager.1.gz
/usr/share/man/man1/pager.1.gz

/bin/more
50
/usr/share/man/man1/more.1.gz

"""


def test_dpkgs_file_is_read_and_written_as_it_was() -> None:
    found = Alternative.parse("pager", PAGER)
    assert found is not None
    assert found.best == AlternativeChoice("/bin/more", 50, {"pager.1.gz": "/usr/share/man/man1/more.1.gz"})
    assert found.to_text() == PAGER
    assert Alternative.parse("pager", "auto\n/usr/bin/pager") is None


def test_calls_are_read_with_variables_and_continued_lines() -> None:
    script = """\
#!/bin/sh
set -e
ver=1.16
if [ "$1" = configure ]; then
  # update-alternatives --install /no /no /no 1
  update-alternatives --quiet --install /usr/bin/automake automake \\
    /usr/bin/automake-$ver 34 \\
    --slave /usr/bin/aclocal aclocal /usr/bin/aclocal-${ver}
  update-alternatives --remove old /usr/bin/old
fi
"""
    assert installed_by(script) == (
        [
            InstallCall(
                "/usr/bin/automake",
                "automake",
                AlternativeChoice("/usr/bin/automake-1.16", 34, {"aclocal": "/usr/bin/aclocal-1.16"}),
                {"aclocal": "/usr/bin/aclocal"},
            )
        ],
        True,
    )


def test_loops_over_words_are_gone_through() -> None:
    """As the scripts of imagemagick-6.q16 and openjdk-17-jre-headless have them."""
    script = """\
basedir=/usr/lib/jvm/java-17
mandir=$basedir/man
tools='java keytool'
for prog in compare convert; do
    if dpkg --compare-versions "$2" lt-nl "8:6.9"; then
        update-alternatives --remove-all $prog
    fi
    update-alternatives --install /usr/bin/$prog \\
                        $prog /usr/bin/$prog-im6.q16 10000 \\
                        --slave /usr/share/man/man1/$prog.1.gz \\
                        $prog.1.gz /usr/share/man/man1/$prog-im6.q16.1.gz
done
for i in $tools; do
    unset slave1 slave2 || true
    if [ -e $mandir/man1/$i.1.gz ]; then
        slave1="--slave \\
            /usr/share/man/man1/$i.1.gz $i.1.gz $mandir/man1/$i.1.gz"
    fi
    update-alternatives --install /usr/bin/$i $i $basedir/bin/$i 1711 $slave1 $slave2
done
for x in a b; do for y in c; do update-alternatives --install /$x$y $x$y /opt/$y$x 1; done; done
update-alternatives --install /usr/bin/jexec jexec $basedir/lib/jexec 1711
"""
    found, whole = installed_by(script)
    assert whole
    assert [(each.link, each.choice.path) for each in found] == [
        ("/usr/bin/compare", "/usr/bin/compare-im6.q16"),
        ("/usr/bin/convert", "/usr/bin/convert-im6.q16"),
        ("/usr/bin/java", "/usr/lib/jvm/java-17/bin/java"),
        ("/usr/bin/keytool", "/usr/lib/jvm/java-17/bin/keytool"),
        ("/ac", "/opt/ca"),
        ("/bc", "/opt/cb"),
        ("/usr/bin/jexec", "/usr/lib/jvm/java-17/lib/jexec"),
    ]
    assert found[1].choice.slaves == {"convert.1.gz": "/usr/share/man/man1/convert-im6.q16.1.gz"}
    assert found[3].slaves == {"keytool.1.gz": "/usr/share/man/man1/keytool.1.gz"}


@pytest.mark.parametrize(
    "script",
    [
        "for i in $(ls /x); do\nupdate-alternatives --install /$i $i /opt/$i 1\ndone\n",
        "while read i; do\nupdate-alternatives --install /$i $i /opt/$i 1\ndone\n",
        "for i in a; do\n" * 50 + "update-alternatives --install /$j $j /opt/$j 1\n",
        "".join(f"for v{n} in {'a ' * 50}; do\n" for n in range(20)) + "done\n" * 20,
    ],
)
def test_loops_that_only_a_shell_understands_are_told(script: str) -> None:
    assert installed_by(script) == ([], False)


def test_a_line_that_goes_on_to_an_empty_one_ends_there() -> None:
    script = (
        "update-alternatives --quiet \\\n  --install /usr/bin/cc cc /usr/bin/gcc 20 \\\n\n"
        "update-alternatives --install /usr/bin/c89 c89 /usr/bin/c89-gcc 20\n"
    )
    assert [each.name for each in installed_by(script)[0]] == ["cc", "c89"]


def test_a_call_that_only_a_shell_understands_is_told() -> None:
    assert installed_by("update-alternatives --install /usr/bin/lzma lzma /usr/bin/xz 20 $(slaves)\n") == (
        [],
        False,
    )


@pytest.mark.parametrize(
    "words",
    [
        "/usr/bin/../../etc/passwd cc /usr/bin/gcc 20",
        "/usr/bin/cc .. /usr/bin/gcc 20",
        "/usr/bin/cc cc /usr/bin/gcc 20 --slave /usr/bin/x ../../passwd /usr/bin/y",
        "/usr/bin/cc cc /usr/bin/gcc 20 --slave /../x x /usr/bin/y",
    ],
)
def test_names_and_links_that_lead_elsewhere_are_not_taken(words: str) -> None:
    assert installed_by(f"update-alternatives --install {words}\n") == ([], False)


def test_the_highest_priority_counts_unless_somebody_chose() -> None:
    less = InstallCall("/usr/bin/pager", "pager", AlternativeChoice("/usr/bin/less", 77), {})
    base = {"var/lib/dpkg/alternatives/pager": PAGER.encode()}
    (merged,) = merge(base, [less], lambda path: True)
    assert merged.best.path == "/usr/bin/less"
    assert list(links_of(merged, lambda path: True)) == [
        ("usr/bin/pager", "/etc/alternatives/pager"),
        ("etc/alternatives/pager", "/usr/bin/less"),
    ]
    base = {"var/lib/dpkg/alternatives/pager": PAGER.replace("auto", "manual").encode()}
    chosen = Alternative.parse("pager", base["var/lib/dpkg/alternatives/pager"].decode())
    assert chosen is not None and chosen.manual


def test_what_is_not_there_is_no_choice_and_has_no_link() -> None:
    more = InstallCall("/l", "n", AlternativeChoice("/p", 1, {"m.1": "/man/m.1"}), {"m.1": "/man/n.1"})
    assert merge({}, [more], lambda path: False) == []
    (merged,) = merge({}, [more], lambda path: path == "/p")
    assert list(links_of(merged, lambda path: path == "/p")) == [
        ("l", "/etc/alternatives/n"),
        ("etc/alternatives/n", "/p"),
    ]
