"""What augmentations are drawn from, and what is drawn, on the device."""
