"""Slurm: settings of a cluster, the script of a job, and Slurm's own commands."""
