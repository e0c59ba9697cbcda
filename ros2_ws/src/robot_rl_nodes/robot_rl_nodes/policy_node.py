"""The policy as a lifecycle node: a shell around ``robot_rl``'s control loop and station.

configure  load the policy, check it against the robot, replay its golden vectors, warm up; refused: unconfigured
activate   connect the robot, start the control thread and the station; the robot is in OFF until it is asked
deactivate the robot damps, the store is sealed, nothing is published any more
error      as deactivate, then unconfigured

Runs unchanged on Humble and Jazzy.
"""

from __future__ import annotations

import threading
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import Node, State, TransitionCallbackReturn

from robot_rl.cli.run import load, make_site
from robot_rl.hardware.robot import Robot
from robot_rl.runtime.loop import LoopConfig
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.run import run
from robot_rl.wire.messages import PolicyEvent
from robot_rl.wire.ros import RosTransport
from robot_rl.wire.station import Station

WATCH_S = 0.2


class PolicyNode(Node):
    """One robot, one policy; see the module's docstring for what each transition does."""

    def __init__(self) -> None:
        super().__init__("policy_node")
        self.declare_parameter("robot", "")
        self.declare_parameter("policy", "")
        self.declare_parameter("driver", "twin")
        self.declare_parameter("record", "")
        self.declare_parameter("scene", "flat")
        self.declare_parameter("stamped_cmd_vel", False)
        self.declare_parameter("on_command_loss", "damp")
        self.declare_parameter("episode_s", 60.0)
        self.declare_parameter("priority", 0)
        self._loaded: tuple[Robot, Policy] | None = None
        self._station: Station | None = None
        self._transport: RosTransport | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._watch = None
        self._failure = ""

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load, verify and warm up; a refused policy leaves the node unconfigured, with the reason in the log."""
        try:
            self._loaded = load(str(self._value("policy")), str(self._value("robot")))
        except (ValueError, OSError) as error:
            self.get_logger().error(f"refused: {error}")
            return TransitionCallbackReturn.FAILURE
        robot, policy = self._loaded
        self.get_logger().info(f"{policy.path} is ready for {robot.title}, {policy.infer_s * 1e6:.0f} us per call")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Connect the robot and start; it stays in OFF until somebody asks for more."""
        assert self._loaded is not None, "on_configure came first"
        robot, policy = self._loaded
        record = str(self._value("record"))
        config = LoopConfig(
            episode_s=float(self._value("episode_s")), on_command_loss=str(self._value("on_command_loss"))
        )
        try:
            site = make_site(
                policy,
                robot,
                driver=str(self._value("driver")),
                record=Path(record).expanduser() if record else None,
                config=config,
                scene=str(self._value("scene")),
            )
            self._transport = RosTransport(node=self)
            self._station = Station(
                site.loop,
                self._transport,
                stamped_command=bool(self._value("stamped_cmd_vel")),
                handlers=site.handlers,
                on_event=self._log_event,
            )
            self._station.start()
        except (ValueError, OSError, ImportError) as error:
            self.get_logger().error(f"cannot activate: {error}")
            self.halt()
            return TransitionCallbackReturn.FAILURE
        self._stop.clear()
        self._failure = ""
        priority = int(self._value("priority")) or None
        self._thread = threading.Thread(target=self._control, args=(site.loop, priority), name="control")
        self._thread.start()
        self._watch = self.create_timer(WATCH_S, self._look)
        return super().on_activate(state)

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Damp the robot, seal the store, fall silent."""
        self.halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Forget the policy."""
        self._loaded = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """Damp and end."""
        self.halt()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: State) -> TransitionCallbackReturn:
        """Damp whatever happened, and begin anew from unconfigured."""
        self.halt()
        self._loaded = None
        return TransitionCallbackReturn.SUCCESS

    def halt(self) -> None:
        """Stop the control thread, which damps and seals, then the station. Safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._watch is not None:
            self.destroy_timer(self._watch)
            self._watch = None
        if self._station is not None:
            self._station.close()
            self._station = None
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _value(self, name: str) -> object:
        return self.get_parameter(name).value

    def _control(self, loop: object, priority: int | None) -> None:
        """Run the loop; a link that cannot be opened is told to the node's own thread."""
        try:
            run(loop, self._stop.is_set, priority=priority)
        except (ConnectionError, OSError) as error:
            self._failure = str(error)

    def _look(self) -> None:
        """Deactivate when the control thread gave up."""
        if self._failure:
            self.get_logger().error(f"the control loop ended: {self._failure}")
            self._failure = ""
            self.trigger_deactivate()

    def _log_event(self, event: PolicyEvent) -> None:
        self.get_logger().info(f"{event.kind}: {event.reason}")


def main() -> None:
    """Spin until the context is shut down; the robot is damped on the way out."""
    rclpy.init()
    node = PolicyNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # the usual ways to end
    finally:
        node.halt()
        node.destroy_node()
        rclpy.get_default_context().try_shutdown()


if __name__ == "__main__":
    main()
