"""The command line: `fantasytalking COMMAND`, one file a command."""
