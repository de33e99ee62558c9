"""What knows nothing of the domain: files, JSON, digests, processes, the machine, downloads and the model hub."""
