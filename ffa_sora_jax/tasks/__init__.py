"""What a trainer must know of what it trains."""
