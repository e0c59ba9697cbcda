"""Robots: their description and the Driver and Camera protocols. No simulator, no ROS, no torch."""
