#!/usr/bin/env bash
# The control plane of a Kubernetes cluster with JobSet on this machine, without machines that run pods.
#   kubernetes_cluster.sh start FOLDER PROGRAMS JOBSET [CRD...]    prints what to export
#   kubernetes_cluster.sh stop FOLDER
# PROGRAMS: a folder with etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kubectl of one
#           release of Kubernetes, and jobset, the manager of JobSet ('go build -o jobset .' in its sources)
# JOBSET:   the sources of that JobSet, whose resource definitions and webhooks are taken
# CRD:      files of further resource definitions, such as KubeRay's ray.io_rayjobs.yaml
# PORT:     the first of five ports, 26440 by default
set -euo pipefail

stop() {
  [ -f "$1/pids" ] || return 0
  while read -r pid; do kill -9 "$pid" 2> /dev/null || true; done < "$1/pids"
  rm "$1/pids"
}

# background NAME WORDS...: start a program of the cluster, and keep its number.
background() {
  local name=$1
  shift
  nohup "$@" > "$folder/$name.log" 2>&1 &
  echo $! >> "$folder/pids"
}

# until_true WHAT WORDS...: wait until a command succeeds.
until_true() {
  local what=$1
  shift
  for _ in $(seq 300); do "$@" > /dev/null 2>&1 && return; sleep 1; done
  echo "$what does not answer; its log is in $folder" >&2
  exit 1
}

folder=$(realpath -m "${2:?kubernetes_cluster.sh start|stop FOLDER}")
case ${1:?start or stop} in
  stop) stop "$folder"; exit ;;
  start) ;;
  *) echo "start or stop, not '$1'" >&2; exit 1 ;;
esac
programs=$(realpath "${3:?the folder of programs}")
jobset=$(realpath "${4:?the sources of JobSet}")
port=${PORT:-26440}
more=()
for path in "${@:5}"; do more+=("$(realpath "$path")"); done
export PATH="$programs:$PATH"
stop "$folder"
rm -rf "$folder"
mkdir -p "$folder/hooks"
cd "$folder"

openssl genrsa -out accounts.key 2048 2> /dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout hooks/tls.key -out hooks/tls.crt -days 30 \
  -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2> /dev/null
token=$(openssl rand -hex 16)
(umask 077; echo "$token,admin,admin,\"system:masters\"" > tokens.csv)
background etcd etcd --data-dir "$folder/etcd" --unsafe-no-fsync --log-level error \
  --listen-client-urls "http://127.0.0.1:$port" --advertise-client-urls "http://127.0.0.1:$port" \
  --listen-peer-urls "http://127.0.0.1:$((port + 1))"
background apiserver kube-apiserver --etcd-servers "http://127.0.0.1:$port" --cert-dir "$folder/certificates" \
  --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port $((port + 2)) \
  --service-account-key-file accounts.key --service-account-signing-key-file accounts.key \
  --service-account-issuer https://kubernetes.default.svc --token-auth-file tokens.csv \
  --authorization-mode RBAC --service-cluster-ip-range 10.96.0.0/16
cat > kubeconfig << YAML
apiVersion: v1
kind: Config
clusters:
  - name: local
    cluster: {server: "https://127.0.0.1:$((port + 2))", certificate-authority: $folder/certificates/apiserver.crt}
users: [{name: admin, user: {token: $token}}]
contexts: [{name: local, context: {cluster: local, user: admin}}]
current-context: local
YAML
export KUBECONFIG="$folder/kubeconfig"
until_true "The API server" kubectl get --raw /readyz
# No machine sends signs of life, so none must be taken for lost.
background controllers kube-controller-manager --kubeconfig kubeconfig --leader-elect=false --secure-port 0 \
  --controllers '*,-node-lifecycle-controller' --service-account-private-key-file accounts.key
background scheduler kube-scheduler --kubeconfig kubeconfig --leader-elect=false --secure-port 0

parts=$jobset/config/components
for definitions in "$parts/crd/bases" "${more[@]}"; do kubectl create --filename "$definitions" > /dev/null; done
kubectl create namespace jobset-system > /dev/null
cat > jobset.yaml << YAML
apiVersion: config.jobset.x-k8s.io/v1alpha1
kind: Configuration
leaderElection: {leaderElect: false}
internalCertManagement: {enable: false}
webhook: {host: 127.0.0.1, port: $((port + 3)), certDir: $folder/hooks}
metrics: {bindAddress: "0"}
health: {healthProbeBindAddress: "127.0.0.1:$((port + 4))"}
YAML
background jobset env NAMESPACE=jobset-system jobset --config jobset.yaml --kubeconfig kubeconfig
until_true JobSet curl --silent --fail --noproxy '*' "http://127.0.0.1:$((port + 4))/readyz"
# There is no network of services: the webhooks are called by their address.
python3 - "$parts/webhook/manifests.yaml" "$((port + 3))" "$(base64 -w0 hooks/tls.crt)" << 'PYTHON' > webhooks.yaml
import re
import sys

path, port, authority = sys.argv[1:]
text = re.sub(
    r"service:\n +name: \S+\n +namespace: \S+\n +path: (\S+)",
    rf"url: https://127.0.0.1:{port}\1\n    caBundle: {authority}",
    open(path).read(),
)
# As JobSet's own installation does: other pods are none of its business.
chosen = "\\1\n  objectSelector: {matchExpressions: [{key: jobset.sigs.k8s.io/jobset-name, operator: Exists}]}"
print(re.sub(r"(name: [mv]pod\.kb\.io)", chosen, text))
PYTHON
kubectl create --filename webhooks.yaml > /dev/null
echo "export KUBECONFIG=$folder/kubeconfig PATH=$programs:\$PATH"
