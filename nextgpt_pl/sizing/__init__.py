"""Parameters, memory, operations and hours of a stage, computed without weights."""
