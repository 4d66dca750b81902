"""The pairwise listening test: reads what raters answered, and says what can be concluded from it. No torch here."""
