"""How the numbers of ``robot-rl eval`` are shown: tables on the terminal, a page of heat maps."""
