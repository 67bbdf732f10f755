"""That what is deployed is whole, runs by itself and brings nothing along that it should not; and what it is made of."""
