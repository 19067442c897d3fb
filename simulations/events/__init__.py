"""The event simulation of a deployment: see docs/simulator.md."""
