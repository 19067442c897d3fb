"""Readers of frame sources; all give the same Frame; imports no torch."""
