"""How jobs are computed: each module builds the jobs of one kind, and computes them from their config alone."""
