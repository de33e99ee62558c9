"""Files that strangers send: received, recognised by their content, and decoded where they can do no harm."""
