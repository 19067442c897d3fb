"""What fog node and edge node share; it imports neither of them, nor the simulations."""

__version__ = "0.1.0"
