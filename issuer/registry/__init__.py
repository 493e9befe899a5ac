"""What people register in files: identities, tools, destinations, grants, exceptions."""
