"""The checks of `triton.py`, by what they are about."""
