"""Train a recipe: ``python sim/train.py go2_walk_ppo`` is ``robot-rl train``, for debuggers."""

from __future__ import annotations

import sys

from robot_rl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
