"""A TCP proxy that makes links worse: slow, late, stalled, reset, cut, or with a flipped bit."""
