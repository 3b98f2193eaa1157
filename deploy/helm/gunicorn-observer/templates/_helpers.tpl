{{- define "observer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "observer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "observer.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observer.selectorLabels" -}}
app.kubernetes.io/name: {{ include "observer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "observer.labels" -}}
{{ include "observer.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "observer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "observer.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "observer.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observer.scheme" -}}
{{- if and .Values.webConfig.enabled .Values.webConfig.tls }}https{{ else }}http{{ end -}}
{{- end -}}

{{/* Probe of a path. With basic authentication it only connects, because it has no password. */}}
{{- define "observer.probe" -}}
{{- $values := .context.Values -}}
{{- if and $values.webConfig.enabled $values.webConfig.basicAuth -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
  scheme: {{ include "observer.scheme" .context | upper }}
{{- end }}
{{ toYaml .probe }}
{{- end -}}

{{/* Kubernetes has a field for AppArmor since 1.30, and an annotation before. */}}
{{- define "observer.appArmorField" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}true{{ end -}}
{{- end -}}

{{- define "observer.appArmorAnnotation" -}}
{{- with .Values.appArmorProfile -}}
{{- if eq .type "Unconfined" -}}
unconfined
{{- else if eq .type "RuntimeDefault" -}}
runtime/default
{{- else -}}
localhost/{{ .localhostProfile }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Endpoint of a monitor, at `path` or `/metrics`; keys of its own `endpoint` win. */}}
{{- define "observer.endpoint" -}}
{{- $endpoint := dict "port" "metrics" "path" (default "/metrics" .path) "scheme" (include "observer.scheme" .context) -}}
{{- $_ := set $endpoint "interval" .monitor.interval -}}
{{- $_ := set $endpoint "scrapeTimeout" .monitor.scrapeTimeout -}}
{{/* Label series with the node, because the observer's pod is replaced. */}}
{{- $node := dict "sourceLabels" (list "__meta_kubernetes_pod_node_name") "targetLabel" "node" -}}
{{- $_ := set $endpoint "relabelings" (list $node) -}}
{{/* Keep the labels that name a Gunicorn's pod, not the observer's. */}}
{{- $_ := set $endpoint "honorLabels" true -}}
{{- toYaml (mustMergeOverwrite $endpoint (deepCopy .monitor.endpoint)) -}}
{{- end -}}
