"""Learning: algorithms as files, shared mathematics, export. The only layer beside ``sim`` that imports torch."""
