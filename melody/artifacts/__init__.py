"""Files and what identifies them: canonical JSON, weights, model folders, provenance. No torch is imported here."""
