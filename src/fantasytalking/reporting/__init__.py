"""Parts that all reports share: page frame, tables, plots, style sheet."""
