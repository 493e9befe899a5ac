"""Work on sealed files: small ones merged, left-overs removed."""
