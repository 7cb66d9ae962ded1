"""Part of mmrag: the command line and what it draws."""
