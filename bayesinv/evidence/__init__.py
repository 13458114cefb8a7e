"""The marginal likelihood of a recording, currents integrated out, and its derivatives."""
