"""The pure kernel: cases, procedure and now become verdicts. Columnar; imports no I/O and no clock."""
