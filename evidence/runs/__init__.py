"""The paper's experiments: protocols, arms, read-outs, and a store of finished runs."""
