"""How far an answer lies from the truth, and how well it knows how far."""
