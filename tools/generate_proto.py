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
DESCRIBED = "kubernetes.binpb"
INIT = '"""Generated from proto/ by tools/generate_proto.py: the kubelet\'s gRPC interfaces."""\n'


def generate() -> dict[str, bytes]:
    """File name → content of everything that belongs into the target folder."""
    with tempfile.TemporaryDirectory() as out:
        code = protoc.main(
            [
                "protoc",
                "--fatal_warnings",
                f"-I{SOURCES}",
                f"-I{files('grpc_tools') / '_proto'}",
                f"--python_out={out}",
                f"--pyi_out={out}",
                f"--grpc_python_out={out}",
                *(str(path) for path in sorted((SOURCES / "gpuyard").rglob("*.proto"))),
            ]
        )
        described = Path(out) / DESCRIBED
        # Kubernetes' own files share one name and import each other by paths that Python can't: they become
        # descriptions, read at run time.
        code = code or protoc.main(
            [
                "protoc",
                "--fatal_warnings",
                f"-I{SOURCES}",
                f"--descriptor_set_out={described}",
                *(str(path) for path in sorted((SOURCES / "k8s.io").rglob("*.proto"))),
            ]
        )
        if code != 0:
            raise SystemExit(f"protoc ended with {code}")
        made = {path.name: path.read_bytes() for path in (Path(out) / "gpuyard/_proto").iterdir()}
        made[DESCRIBED] = described.read_bytes()
    return {"__init__.py": INIT.encode(), **made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = generate()
    kinds = (".py", ".pyi", ".binpb")
    present = {path.name: path.read_bytes() for path in TARGET.iterdir() if path.suffix in kinds}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if check:
        for name in stale:
            print(
                f"src/gpuyard/_proto/{name} differs from what tools/generate_proto.py writes", file=sys.stderr
            )
        return 1 if stale else 0
    for name in stale:
        if name in wanted:
            (TARGET / name).write_bytes(wanted[name])
        else:
            (TARGET / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
