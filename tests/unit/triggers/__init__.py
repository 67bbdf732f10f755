"""How requests are read and answered, without a host."""
