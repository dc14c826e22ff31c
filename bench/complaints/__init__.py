"""What users of process pools complain of, tried with several pools; see `__main__`."""
