"""The benchmark of training on a GPU; benchmarks/training_gpu.py starts it."""
