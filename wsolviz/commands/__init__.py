"""The subcommands of python -m wsolviz, one file each."""
