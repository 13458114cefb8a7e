"""Head: the conductor, the sensors around it, the sources in it, and a template of all three."""
