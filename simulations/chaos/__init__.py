"""Real daemons under drawn faults, and a check that no acknowledged frame is lost, doubled or invented."""
