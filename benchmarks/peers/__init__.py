"""Peers of the training benchmarks, each a script in a process of its own; README.md says which and why."""
