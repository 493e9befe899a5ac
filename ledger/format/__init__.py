"""The format itself: bytes in, values out. Nothing here touches a disk, a clock or a network."""
