"""Watch a policy: ``python sim/play.py POLICY.onnx`` is ``robot-rl play POLICY.onnx``, for reading and debuggers."""

from __future__ import annotations

import sys

from robot_rl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["play", *sys.argv[1:]]))
