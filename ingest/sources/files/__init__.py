"""Files as a source: lines of plain, gzip or zstd text, from folders, globs and standard input."""
