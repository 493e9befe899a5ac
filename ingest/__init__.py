"""From foreign bytes to sealed events: sources, adapters, masking, validation, the pipeline."""
