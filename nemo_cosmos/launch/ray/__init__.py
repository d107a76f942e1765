"""Ray: settings of a cluster, the script of a job, its ranks on the nodes, and the jobs' server."""
