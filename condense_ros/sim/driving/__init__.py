"""Where the robot goes: ways, speed, odometry, and traffic that lets it pass."""
