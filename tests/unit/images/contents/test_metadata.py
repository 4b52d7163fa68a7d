from __future__ import annotations

from gpuyard.images.contents.metadata import Metadata, read_egg_requires, read_metadata


def test_the_header_of_metadata() -> None:
    text = (
        b"Metadata-Version: 2.1\nName: torch\nVersion: 2.5.1+cu124\n"
        b"Requires-Dist: filelock\nRequires-Dist: sympy==1.13.1; python_version >= '3.9'\n"
        b"Requires-Dist: optree>=0.12; extra == 'optree' \nSummary: Name: not this\n"
    )
    assert read_metadata(text) == Metadata(
        "torch",
        "2.5.1+cu124",
        ("filelock", "sympy==1.13.1; python_version >= '3.9'", "optree>=0.12; extra == 'optree'"),
    )
    assert read_metadata(b"\xff\xfe nonsense") == Metadata()


def test_requirements_of_an_egg() -> None:
    text = (
        b'PyYAML>=5\n\n[:python_version < "3.9"]\nzoneinfo\n\n[dev]\npytest\n\n'
        b'[gpu:sys_platform == "linux"]\ncupy\n'
    )
    assert read_egg_requires(text) == (
        "PyYAML>=5",
        'zoneinfo ; (python_version < "3.9")',
        'pytest ; extra == "dev"',
        'cupy ; (sys_platform == "linux") and extra == "gpu"',
    )
