"""Small tools to enforce in front of: what they do is not the point, that they are guarded is."""
