"""Choices of memory and speed over what diffusers and PyTorch can do; no kernels."""
