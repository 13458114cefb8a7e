"""To and from other libraries and files: MNE-Python, ArviZ, NetCDF."""
