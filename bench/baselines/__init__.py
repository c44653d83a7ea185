"""What is measured against: each does less than the system, or the same in the plain way."""
