"""Domain-independent parts: files, JSON, records, digests, processes, the machine, downloads and the model hub."""
