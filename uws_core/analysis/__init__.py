"""Pure linear algebra and statistics, noun to noun: numpy and scipy only."""
