"""The HTTP toolkit: what every feature needs to speak HTTP well. It knows no feature."""
