"""robot_rl: real-world robot reinforcement learning, from simulator to robot and back."""

__version__ = "0.1.0"
