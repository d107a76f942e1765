{{/* Labels of every object. */}}
{{- define "cosmos.labels" -}}
app.kubernetes.io/name: nemo-cosmos
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels by which policies find pods. (dict "root" $ "component" NAME) */}}
{{- define "cosmos.podLabels" -}}
app.kubernetes.io/name: nemo-cosmos
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "cosmos.serviceAccount" -}}
{{ .Release.Name }}
{{- end }}

{{/* Name of a volume's claim. (dict "root" $ "name" data|runs) */}}
{{- define "cosmos.claim" -}}
{{- $volume := index .root.Values.storage .name -}}
{{ $volume.existingClaim | default (printf "%s-%s" .root.Release.Name .name) }}
{{- end }}

{{/* (dict "image" MAP "where" training|curation) */}}
{{- define "cosmos.image" -}}
{{- if not .image.repository -}}
{{- fail (printf "%s.image.repository is empty. No published image holds nemo_cosmos: build ours from the Dockerfile, push it to a registry that the cluster reaches, and give --set %s.image.repository=REGISTRY/IMAGE,%s.image.tag=TAG." .where .where .where) -}}
{{- end -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else if .image.tag -}}
{{ .image.repository }}:{{ .image.tag }}
{{- else -}}
{{- fail (printf "%s.image has neither a tag nor a digest. Name the image that you pushed: --set %s.image.tag=TAG; 'latest' would differ between nodes." .where .where) -}}
{{- end -}}
{{- end }}

{{- define "cosmos.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user.uid | int64 }}
runAsGroup: {{ .Values.user.gid | int64 }}
fsGroup: {{ .Values.user.gid | int64 }}
# A volume of many files would be walked at each start otherwise.
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "cosmos.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Environment of a container. (dict "root" $ "env" MAP) */}}
{{- define "cosmos.env" -}}
- name: HOME
  value: /scratch
# The user's number may be in no table of users; torch and the audit log ask for a name.
- name: USER
  value: cosmos
- name: LOGNAME
  value: cosmos
{{- range $name, $value := merge (dict) .env .root.Values.env }}
{{- /* A whole number of a values file is a float here, and 1000000 would be written as 1e+06. */}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- range .root.Values.secrets }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}

{{/* Mounts of a container. (dict "root" $) */}}
{{- define "cosmos.mounts" -}}
- name: data
  mountPath: {{ .root.Values.storage.data.mountPath | quote }}
- name: runs
  mountPath: {{ .root.Values.storage.runs.mountPath | quote }}
- name: scratch
  mountPath: /scratch
- name: tmp
  mountPath: /tmp
- name: shm
  mountPath: /dev/shm
{{- end }}

{{/* Volumes of a pod. (dict "root" $ "sharedMemory" SIZE "scratch" SIZE) */}}
{{- define "cosmos.volumes" -}}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "cosmos.claim" (dict "root" .root "name" "data") | quote }}
- name: runs
  persistentVolumeClaim:
    claimName: {{ include "cosmos.claim" (dict "root" .root "name" "runs") | quote }}
- name: scratch
  emptyDir:
    sizeLimit: {{ .scratch }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .scratch }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .sharedMemory }}
{{- end }}

{{/* Where pods may run. (dict "root" $ "part" MAP) */}}
{{- define "cosmos.placement" -}}
serviceAccountName: {{ include "cosmos.serviceAccount" .root | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "cosmos.podSecurity" .root | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .part.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
