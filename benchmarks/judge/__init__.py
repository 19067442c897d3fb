"""How encoded frames are judged: the protocol, the classic peers, and the cache of what was measured."""
