"""Messages between nodes, their framing, authentication and flow control; imports no torch."""
