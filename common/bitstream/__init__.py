"""Packets: one encoded frame as bytes; the byte layout is in README.md beside this file."""
