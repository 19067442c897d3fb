"""How frames become packets: an encoder for each kind of profile, and what they share."""
