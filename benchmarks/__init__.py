"""What this program costs, next to what a user would pick instead. ``python -m benchmarks`` runs all of it."""
