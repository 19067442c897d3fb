"""What the cost model is made of: deployments, links, stages, crossings and their words (no torch)."""
