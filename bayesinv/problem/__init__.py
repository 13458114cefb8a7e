"""From a recording and a lead field to the one thing that a model sees."""
