"""Daemons read the training settings; they must not thereby load torch or Ultralytics."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def loaded_by(statement):
    """Names of heavy packages that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{'torch', 'ultralytics', 'cv2'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return run.stdout.split()


def test_settings_and_messages_load_no_torch():
    assert (
        loaded_by(
            "import common.learning.settings, common.node.learning_messages, common.node.training_rounds"
        )
        == []
    )


@pytest.mark.parametrize("module", ["edge_node.train_command", "edge_node.doctor_command"])
def test_commands_start_quickly(module):
    assert loaded_by(f"import {module}") == []


def test_ultralytics_is_loaded_only_once_it_is_needed():
    modules = (
        "common.learning.resident, common.learning.batches, common.learning.gate, common.learning.trainer"
    )
    assert "ultralytics" not in loaded_by(f"import {modules}")


def test_ultralytics_is_silent_offline_and_leaves_the_threads_alone(tmp_path):
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from common.learning.yolo_environment import prepare_yolo\n"
        "prepare_yolo()\n"
        "from ultralytics.utils import AUTOINSTALL, ONLINE, SAFE_LOAD, SETTINGS\n"
        "assert not AUTOINSTALL and not ONLINE and SAFE_LOAD and not SETTINGS['sync']\n"
        "assert torch.get_num_threads() == 2\n"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, cwd=ROOT
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
    assert (tmp_path / ".cache" / "residual-inr" / "ultralytics").is_dir()
