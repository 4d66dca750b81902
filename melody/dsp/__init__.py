"""Signal processing that several parts share."""
