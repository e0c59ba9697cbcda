"""ROS 2 nodes of robot_rl; all they do is in the library."""
