"""The control loop on a robot: clock, policy, shield, modes, takeover, swap, recorder."""
