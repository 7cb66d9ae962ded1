"""Part of mmrag: how well it works, measured on published labels."""
