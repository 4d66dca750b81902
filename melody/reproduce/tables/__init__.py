"""How tables are filled: each module plans the jobs of one kind of suite, and turns their outcomes into cells."""
