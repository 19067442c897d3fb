"""Video codecs as peers of streams."""
