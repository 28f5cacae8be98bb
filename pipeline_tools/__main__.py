"""`python -m pipeline_tools`."""

from pipeline_tools.cli import main

main()
