"""The live path: sources, sinks and the loop between them. The newest frame wins, and every millisecond is told."""
