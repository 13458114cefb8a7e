"""Interpolation of what is dear to work out: over one number, over several, and by Gauss rules."""
