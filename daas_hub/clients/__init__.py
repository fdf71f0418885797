"""One module per outside system. Foreign exceptions are translated here, once."""
