"""Everything that crosses the network or a file: its documents, read and written."""
