"""Transitions, the append-only episode store and the replay buffer."""
