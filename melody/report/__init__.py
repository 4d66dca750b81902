"""Tables, plots and pages of a run: reads results only, never imports torch."""
