"""CycleGAN from a folder of pictures to a live camera on a small device."""
