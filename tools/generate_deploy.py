"""Writes deploy/helm and deploy/kustomize from what `gpuyard install` sends; --check says what differs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpuyard import __version__
from gpuyard.tenancy.chart import helm_chart, kustomize
from gpuyard.workloads.yaml_text import to_yaml

TARGET = Path(__file__).resolve().parent.parent / "deploy"


def files() -> dict[Path, str]:
    """Every file of both."""
    chart = {Path("helm/gpuyard", name): text for name, text in helm_chart(__version__, to_yaml).items()}
    return chart | {Path("kustomize", name): text for name, text in kustomize(to_yaml).items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    wanted = files()
    folders = (TARGET / "helm", TARGET / "kustomize")
    there = {path.relative_to(TARGET) for folder in folders for path in folder.rglob("*") if path.is_file()}
    stale = there - wanted.keys()
    changed = [
        path for path, text in wanted.items() if path not in there or (TARGET / path).read_text() != text
    ]
    if check:
        for path in sorted([*stale, *changed]):
            print(f"deploy/{path} differs from what tools/generate_deploy.py writes", file=sys.stderr)
        return 1 if stale or changed else 0
    for path in stale:
        (TARGET / path).unlink()
    for path in changed:
        (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / path).write_text(wanted[path])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
