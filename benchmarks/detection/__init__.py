"""What a detector learns from packets: which frames, from which pixels, and how sure a difference is."""
