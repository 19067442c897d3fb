"""Training of the shared model of profile ``pyramid``."""
