"""MusicLM-style system (section 7 of our sheet; arXiv 2301.11325): three language models over tokens of a codec."""
