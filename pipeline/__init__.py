"""What two or more of the top-level scripts share."""
