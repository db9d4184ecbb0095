"""One room per framework: the only places that import it."""
