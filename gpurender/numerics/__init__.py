"""The same bits on every machine: addresses of randomness, portable mathematics, quantiles."""
