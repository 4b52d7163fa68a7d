from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gpuyard.local.runtime.trials import trial_folder

TRY = """
import os, signal, sys
from pathlib import Path
from gpuyard.local.runtime.trials import trial_folder
with trial_folder(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_trial_goes_with_the_next_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", TRY, str(tmp_path)], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    (tmp_path / "gpuyard-trial-of-somebody").mkdir()
    with trial_folder(tmp_path) as first, trial_folder(tmp_path) as second:
        assert first.is_dir() and second.is_dir() and not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["gpuyard-trial-of-somebody"]
