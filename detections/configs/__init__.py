"""What detections go by besides their rules: reviewed files, sealed as `config` entries, in force since."""
