"""The metrics, one family a file; `registry` knows them all. A new metric is one file and one line there."""
