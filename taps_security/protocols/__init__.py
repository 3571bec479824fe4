"""One room per protocol, all with the same furniture."""
