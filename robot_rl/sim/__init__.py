"""Worlds: physics backends behind one protocol, tasks as dicts of terms, environments."""
