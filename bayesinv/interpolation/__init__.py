"""Interpolation of expensive functions of one variable or several, and Gauss quadrature."""
