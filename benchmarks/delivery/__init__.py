"""A running fog, devices of a few lines, and what they are compared with, for benchmarks of the transport."""
