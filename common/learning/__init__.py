"""From packets to a trained detector; the one package that imports ultralytics."""
