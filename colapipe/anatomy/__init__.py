"""The built-in engine as pure functions: masks, registration, tissue classes, intensity."""
