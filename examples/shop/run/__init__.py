"""The shop's processes: what each one does, and who starts and ends them."""
