"""The parts of ``robot-rl demo``: the drive, the measurement, the page."""
