"""Thin rclpy shells; the only room that imports ROS."""
