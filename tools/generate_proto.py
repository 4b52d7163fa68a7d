#!/usr/bin/env python3
"""Writes src/gpuyard/_proto from proto/. With --check, says instead which files are out of date."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "src/gpuyard/_proto"
INIT = '"""Generated from proto/ by tools/generate_proto.py: the kubelet\'s gRPC interfaces."""\n'


def generate() -> dict[str, str]:
    """File name → text of everything that belongs into the target folder."""
    with tempfile.TemporaryDirectory() as out:
        code = protoc.main(
            [
                "protoc",
                f"-I{SOURCES}",
                f"-I{files('grpc_tools') / '_proto'}",
                f"--python_out={out}",
                f"--pyi_out={out}",
                f"--grpc_python_out={out}",
                *(str(path) for path in sorted(SOURCES.rglob("*.proto"))),
            ]
        )
        if code != 0:
            raise SystemExit(f"protoc ended with {code}")
        made = {path.name: path.read_text() for path in (Path(out) / "gpuyard/_proto").iterdir()}
    return {"__init__.py": INIT, **made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = generate()
    present = {path.name: path.read_text() for path in TARGET.glob("*.py*") if path.is_file()}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if check:
        for name in stale:
            print(
                f"src/gpuyard/_proto/{name} differs from what tools/generate_proto.py writes", file=sys.stderr
            )
        return 1 if stale else 0
    for name in stale:
        if name in wanted:
            (TARGET / name).write_text(wanted[name])
        else:
            (TARGET / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
