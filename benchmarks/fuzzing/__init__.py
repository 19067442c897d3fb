"""Mutation fuzzing of everything that reads bytes from outside: see benchmarks/fuzz.py."""
