"""What is on the disk: tables, files, the registry, locks and flags of one directory, as one process has it open."""
