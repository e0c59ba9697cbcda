"""The command line: one file per verb; the only place where a world and a learner meet."""
