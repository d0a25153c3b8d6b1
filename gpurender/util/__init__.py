"""Tools that know nothing of images: checks, files, caches, progress."""
