"""Implicit neural representations: networks, batched fitting and evaluation, quantization, composition."""
