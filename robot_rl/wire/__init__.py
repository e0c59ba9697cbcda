"""Messages, transports (loopback, DDS, ROS 2) and the station that joins them to a control loop."""
