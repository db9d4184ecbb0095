"""What can be wrong with landmark files, and a picture of what they say."""
