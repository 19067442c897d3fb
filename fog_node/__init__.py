"""The fog node: receives, encodes, stores and serves frames; the offline encoder."""
