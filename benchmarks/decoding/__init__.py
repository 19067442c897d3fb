"""Parts of decode_speed.py."""
