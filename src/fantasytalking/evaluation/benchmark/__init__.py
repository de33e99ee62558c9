"""A benchmark is a manifest of cases, methods and expectations: generate, resumable, on one or several devices, then score."""
