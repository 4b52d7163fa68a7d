from __future__ import annotations

from collections.abc import Mapping

import pytest

from gpuyard.building.libraries.module_imports import Import, ModuleFiles, imported_extensions


def found(files: Mapping[str, str]) -> dict[str, Import]:
    return imported_extensions(ModuleFiles.of(files), lambda path: files[path].encode())


def test_what_a_package_imports_is_certain() -> None:
    assert found(
        {
            "a/__init__.py": "from .b import x\nimport a.c.d",
            "a/b.py": "from . import _one\nclass X:\n  from a._two import y\n",
            "a/c/__init__.py": "",
            "a/c/d.py": "from .._three import z",
            "a/_one.cpython-311-x86_64-linux-gnu.so": "",
            "a/_two.abi3.so": "",
            "a/_three.so": "",
            "a/_unused.abi3.so": "",
        }
    ) == {
        "a/_one.cpython-311-x86_64-linux-gnu.so": Import.CERTAIN,
        "a/_two.abi3.so": Import.CERTAIN,
        "a/_three.so": Import.CERTAIN,
    }


@pytest.mark.parametrize(
    "source",
    [
        "try:\n  from . import _fast\nexcept ImportError:\n  pass",
        "if x:\n  from ._fast import y",
        "for x in y:\n  import a._fast",
    ],
)
def test_what_may_fail_is_tried(source: str) -> None:
    assert found({"a/__init__.py": source, "a/_fast.abi3.so": ""}) == {"a/_fast.abi3.so": Import.TRIED}


def test_what_is_certain_anywhere_is_certain() -> None:
    files = {
        "a/__init__.py": "try:\n  from . import b\nexcept ImportError: pass\nfrom . import c",
        "a/b.py": "from . import _fast",
        "a/c.py": "from . import b",
        "a/_fast.abi3.so": "",
    }
    assert found(files) == {"a/_fast.abi3.so": Import.CERTAIN}


def test_functions_import_when_they_are_called() -> None:
    source = (
        "def f():\n  from . import _lazy\nasync def g():\n  import a._lazy\nh = lambda: __import__('a._lazy')"
    )
    assert found({"a/__init__.py": source, "a/_lazy.abi3.so": ""}) == {}


def test_a_module_that_users_import_is_offered() -> None:
    files = {
        "a/__init__.py": "",
        "a/QtGui.abi3.so": "",
        "a/_hidden.abi3.so": "",
        "a/plugins/far.abi3.so": "",
        "a/liba.so": "",
    }
    assert found(files) == {"a/QtGui.abi3.so": Import.OFFERED}


def test_a_package_loads_the_module_of_its_own_name() -> None:
    files = {"cv2/__init__.py": "import importlib\nimportlib.import_module('cv2')", "cv2/cv2.abi3.so": ""}
    assert found(files) == {"cv2/cv2.abi3.so": Import.CERTAIN}


def test_a_module_at_the_top() -> None:
    assert found({"_cffi_backend.cpython-311-x86_64-linux-gnu.so": ""}) == {
        "_cffi_backend.cpython-311-x86_64-linux-gnu.so": Import.CERTAIN
    }


def test_source_that_is_none() -> None:
    assert found({"a/__init__.py": "def (", "a/b.py": "\0", "a/_x.abi3.so": ""}) == {}
