"""Where encoders run: worker processes or Ray, their pools and messages (no torch in the daemon)."""
