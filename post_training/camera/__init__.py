"""A camera as control: rays of its pixels steer a world model along a path."""
