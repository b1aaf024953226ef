"""`condense soak`: the live nodes under faults for as long as one likes, and a verdict."""
