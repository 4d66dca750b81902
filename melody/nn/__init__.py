"""Layers that networks of several parts share."""
