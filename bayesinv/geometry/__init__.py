"""Geometry: triangle surfaces, tetrahedral meshes, and distances along them."""
