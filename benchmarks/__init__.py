"""What the Lai loss costs beside other losses, in time and in memory: `make benchmark`."""
