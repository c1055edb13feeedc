"""The vectors of the specification: to read them, to answer them by this library's own code, and to drive any other program with them."""
