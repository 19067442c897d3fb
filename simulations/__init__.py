"""Scenarios, simulations and loopback deployments of the real daemons."""
