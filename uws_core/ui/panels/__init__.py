"""What every page shows in the same way: head and answer, numbers, figures with their export, folded parts, work."""
