"""Pyramids: multi-resolution grids of integers, a shared synthesis and a shared entropy model."""
