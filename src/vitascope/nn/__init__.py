"""Network parts that two or more methods use."""
