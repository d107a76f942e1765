"""Controls, the preparation of their data sets, and the simulated worlds that show them."""
