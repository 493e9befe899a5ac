"""Where bytes lie: a local folder or a bucket behind one narrow interface."""
