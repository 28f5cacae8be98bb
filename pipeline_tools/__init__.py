"""GitLab CI pipeline toolkit: from a git tag to a running workload."""
