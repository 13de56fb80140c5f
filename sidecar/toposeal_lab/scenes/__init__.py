"""What happens to a mesh that lives: one scene each, with real pods, for `toposeal-lab demo --scenario`."""
