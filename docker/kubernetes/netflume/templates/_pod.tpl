{{- /* The netflume container; a chart that has this one as a dependency may include it in its own pods, with `netflume.volumes`. */ -}}
{{- define "netflume.container" -}}
name: netflume
image: {{ include "netflume.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/netflume/netflume.yaml]
env:
  - name: NODE_NAME
    valueFrom: { fieldRef: { fieldPath: spec.nodeName } }
  - name: POD_NAME
    valueFrom: { fieldRef: { fieldPath: metadata.name } }
  - name: POD_NAMESPACE
    valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
  - name: POD_UID
    valueFrom: { fieldRef: { fieldPath: metadata.uid } }
  # Of netflume's own telemetry.
  - name: OTEL_RESOURCE_ATTRIBUTES
    value: k8s.node.name=$(NODE_NAME),k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.uid=$(POD_UID)
  {{- if include "netflume.hostFiles" . }}
  - name: HOST_ROOT
    value: /host
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .Values.ports.health .Values.ports.prometheus }}
ports:
  {{- with .Values.ports.health }}
  - { name: health, containerPort: {{ . }} }
  {{- end }}
  {{- with .Values.ports.prometheus }}
  - { name: metrics, containerPort: {{ . }} }
  {{- end }}
{{- end }}
{{- if .Values.ports.health }}
# First data is there in seconds; a slow node has a minute to load the kernel programs.
startupProbe:
  httpGet: { path: /livez, port: health }
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: { path: /livez, port: health }
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 10
  timeoutSeconds: 5
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  {{- if include "netflume.readsKernel" . }}
  runAsUser: 0
  runAsGroup: 0
  runAsNonRoot: false
  capabilities:
    drop: [ALL]
    # Kernel programs: BPF, PERFMON; cgroup hooks: NET_ADMIN; executables of other users' processes: SYS_PTRACE; the limit on locked
    # memory, for kernels before 5.11: SYS_RESOURCE.
    add: [BPF, PERFMON, NET_ADMIN, SYS_PTRACE, SYS_RESOURCE]
  # The default profiles of many container runtimes refuse bpf(2) and reading other processes' /proc entries, whatever the capabilities.
  seccompProfile: { type: Unconfined }
  appArmorProfile: { type: Unconfined }
  {{- else }}
  runAsUser: 65532
  runAsGroup: 65532
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
  seccompProfile: { type: RuntimeDefault }
  {{- end }}
volumeMounts:
  - { name: config, mountPath: /etc/netflume, readOnly: true }
  {{- if include "netflume.readsKernel" . }}
  - { name: cgroup, mountPath: /sys/fs/cgroup, readOnly: true }
  {{- end }}
  {{- if include "netflume.hostFiles" . }}
  {{- range $index, $path := .Values.hostFiles }}
  - { name: host-{{ $index }}, mountPath: /host{{ $path }}, readOnly: true }
  {{- end }}
  {{- end }}
  {{- if include "netflume.readsCilium" . }}
  - { name: cilium, mountPath: {{ .Values.cilium.socketDir }}, readOnly: true }
  - { name: run, mountPath: /var/run/netflume }
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- /* A sidecar reports its pod's connections; the node's name is in its environment. */ -}}
{{- define "netflume.hostFiles" -}}
{{- if and .Values.hostFiles (eq .Values.form "daemonset") }}yes{{ end -}}
{{- end -}}

{{- define "netflume.volumes" -}}
- name: config
  configMap: { name: {{ include "netflume.fullname" . }} }
{{- if include "netflume.readsKernel" . }}
# All of the node's cgroups, in place of the container's own part of them: hooks are attached at the root.
- name: cgroup
  hostPath: { path: /sys/fs/cgroup, type: Directory }
{{- end }}
{{- if include "netflume.hostFiles" . }}
{{- range $index, $path := .Values.hostFiles }}
- name: host-{{ $index }}
  hostPath: { path: {{ $path }}, type: File }
{{- end }}
{{- end }}
{{- if include "netflume.readsCilium" . }}
# The folder, not the sockets: the agent makes them anew each time it starts.
- name: cilium
  hostPath: { path: {{ .Values.cilium.socketDir }}, type: DirectoryOrCreate }
- name: run
  emptyDir: {}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "netflume.podMetadata" -}}
labels:
  {{- include "netflume.labels" . | nindent 2 }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .Values.rollOnConfigChange .Values.podAnnotations }}
annotations:
  {{- if .Values.rollOnConfigChange }}
  # A changed configuration is a changed pod.
  checksum/config: {{ include "netflume.config" . | sha256sum }}
  {{- end }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "netflume.podCommon" -}}
serviceAccountName: {{ include "netflume.serviceAccount" . }}
automountServiceAccountToken: {{ .Values.rbac.create }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and (include "netflume.readsCilium" .) (not (include "netflume.readsKernel" .)) }}
securityContext:
  supplementalGroups: [{{ .Values.cilium.socketGroup }}]
{{- end }}
{{- end -}}
