"""How tables are filled: each module plans the units of one kind of suite, and turns their outcomes into cells."""
