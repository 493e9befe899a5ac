"""Objects of a bucket, or files of a folder, that are written once: what trails and log shippers leave."""
