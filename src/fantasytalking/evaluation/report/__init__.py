"""The report of an evaluation: page, tables, plots, CSV, all made from the same record."""
