"""The edge node: records, uploads, receives and trains; the offline decoder and trainer."""
