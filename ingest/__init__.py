"""Part of mmrag: files in, regions and chunks in the index."""
