"""Steps of the rows of a table that a batch reads."""
