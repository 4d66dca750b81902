"""How units are computed: each module builds the units of one kind, and computes them from their config alone."""
