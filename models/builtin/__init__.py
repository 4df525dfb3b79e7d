"""The embedded default encoder and the scripts that make its trained heads."""
