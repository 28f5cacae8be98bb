"""The documentation. `docs.generate` writes what follows from the code."""
