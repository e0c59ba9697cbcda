"""What a policy assumes: state, observation terms, action law, golden vectors. NumPy only."""
