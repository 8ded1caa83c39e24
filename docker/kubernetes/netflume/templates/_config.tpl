{{- /* The configuration that the profile stands for, with `config` merged over it. */ -}}
{{- define "netflume.config" -}}
{{- $base := dict "receivers" dict "exporters" dict "extensions" dict -}}
{{- if include "netflume.readsKernel" . -}}
{{- $_ := set $base.receivers "ebpf" (dict "scope" (ternary "pod" "host" (eq .Values.form "sidecar"))) -}}
{{- end -}}
{{- if include "netflume.readsCilium" . -}}
{{- $socket := printf "%s/monitor1_2.sock" .Values.cilium.socketDir -}}
{{- $_ := set $base.receivers "cilium" (dict "socket" $socket "api_socket" (printf "%s/cilium.sock" .Values.cilium.socketDir)) -}}
{{- $_ := set $base.extensions "hubble_observer" (dict "endpoint" "unix:///var/run/netflume/hubble.sock") -}}
{{- end -}}
{{- if .Values.endpoint -}}
{{- $_ := set $base.exporters "otlp_grpc" (dict "endpoint" .Values.endpoint) -}}
{{- end -}}
{{- with .Values.ports.health -}}
{{- $_ := set $base.extensions "health" (dict "endpoint" (printf "0.0.0.0:%d" (int .))) -}}
{{- end -}}
{{- with .Values.ports.prometheus -}}
{{- $_ := set $base.extensions "prometheus" (dict "endpoint" (printf "0.0.0.0:%d" (int .))) -}}
{{- end -}}
{{- $config := mergeOverwrite $base (deepCopy .Values.config) -}}
{{- range $group, $keys := $config -}}
{{- range $key, $value := $keys -}}
{{- if kindIs "invalid" $value -}}{{- $_ := unset $keys $key -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $config.exporters -}}
{{- fail "endpoint is not set: give the address of an OpenTelemetry Collector, for example endpoint=http://otel-collector.observability:4317" -}}
{{- end -}}
{{- if not $config.receivers -}}
{{- fail "config.receivers: no receiver is left" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
