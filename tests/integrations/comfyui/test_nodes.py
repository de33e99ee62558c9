"""The nodes' schema is what ComfyUI takes, and everything that can be set is reached by a node."""
