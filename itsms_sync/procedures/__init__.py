"""The documented procedure: one version of a controlled document, made of requirements. Pure."""
