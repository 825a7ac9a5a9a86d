"""The subcommands of python -m wsolviz, and what they share; app is in `wsolviz.cli`."""
