"""The benchmarks on a GPU; benchmarks/training_gpu.py and benchmarks/inference_gpu.py start them."""
