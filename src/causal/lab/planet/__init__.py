"""What a simulated planet is made of: places, servers, processes, users."""
