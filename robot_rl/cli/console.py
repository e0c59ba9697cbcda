"""Watch and steer a robot from a terminal: modes, latencies, learner, takeover, e-stop, labels.

Knows: how to join a wire and open the page.
Does not know: the page (``console_page``), the robot.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Args:
    """Open the operator's page for one robot. Space is the e-stop; quitting leaves a robot that it drove to damp."""

    wire: Literal["dds", "ros"] = "dds"
    """dds: ROS 2's wire without ROS; ros: rclpy."""
    namespace: str = ""
    """Namespace of the robot's topics."""


def run(args: Args) -> int:
    """Show the page until it is quit.

    Raises:
        ValueError: There is no terminal to draw on.
    """
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise ValueError("the console needs a terminal; stdin or stdout is none")
    from robot_rl.cli.console_page import ConsoleApp
    from robot_rl.wire.transport import open_transport

    transport = open_transport(args.wire, node="robot_rl_console", namespace=args.namespace)
    try:
        ConsoleApp(transport, robot=args.namespace or "a robot").run()
    finally:
        transport.close()
    return 0
