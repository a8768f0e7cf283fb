"""Stages as jobs on a cluster: what is sent there, how a job is named, followed and stopped."""
