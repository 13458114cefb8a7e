"""Every method on every truth: a configuration, its cells, their results."""
