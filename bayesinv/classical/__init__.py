"""Classical estimates on the same problem, the choice of lambda, and resolution."""
