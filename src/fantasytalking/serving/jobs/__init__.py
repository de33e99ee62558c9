"""Jobs: what was asked for and what became of it, in a database and a folder of files."""
