"""The programs that trained the committed tables."""
