"""One thin module a command: options → request → the driver → the console."""
