"""Audio files, corpora, and the embedded corpus."""
