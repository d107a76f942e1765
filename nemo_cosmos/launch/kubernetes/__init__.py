"""Kubernetes: settings of a cluster, the manifest of a job, and kubectl's commands."""
