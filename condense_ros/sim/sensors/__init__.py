"""What a rig's sensors see of a world: rays, light, cameras, LiDAR, depth, and the truth."""
