"""What both daemons are built of: child processes, status, rates, and when to train; imports no torch."""
