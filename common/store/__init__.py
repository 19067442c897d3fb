"""Durable storage: one contract, an SQLite and an in-memory implementation; imports no torch."""
