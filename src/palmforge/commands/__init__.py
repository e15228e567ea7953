"""Our own subcommands, one file each."""
