"""From a recording and a lead field to the whitened problem that a model observes."""
