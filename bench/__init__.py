"""The benchmark: `make bench`. Each transfer is a ratio against plain send and receive in the same run."""
