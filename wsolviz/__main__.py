"""python -m wsolviz."""

from wsolviz.cli import main

main()
