{{- define "twitter-clone.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "common.releaseLabels" . }}
{{- end -}}

{{/* The labels of another chart's pods in this release: include "twitter-clone.podsOf" (list . "read-service") */}}
{{- define "twitter-clone.podsOf" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- end -}}

{{/* Port of another chart's pods: include "twitter-clone.portOf" (list "read-service" "http") */}}
{{- define "twitter-clone.portOf" -}}
{{- include "common.port" (list (index . 0 | trimSuffix "-service") (index . 1)) -}}
{{- end -}}

{{/* What Prometheus knows the pods by: a ServiceMonitor's job is the name of the Service */}}
{{- define "twitter-clone.jobs" -}}
{{- $read := include "common.siblingName" (list . "read-service") -}}
{{- $write := include "common.siblingName" (list . "write-service") -}}
read: job="{{ $read }}"
write: job="{{ $write }}"
owner: job="{{ include "common.siblingName" (list . "db-updater") }}"
api: job=~"{{ $read }}|{{ $write }}"
{{- end -}}

{{/* A rule of egress: to where the log is */}}
{{- define "twitter-clone.egressToRedis" -}}
{{- if .Values.redis.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "twitter-clone.podsOf" (list . "redis") | nindent 10 }}
  ports:
    - port: 6379
{{- else -}}
- {{ with .Values.networkPolicy.externalRedis.to }}to:
    {{- toYaml . | nindent 4 }}
  {{ end }}ports:
    - port: {{ .Values.networkPolicy.externalRedis.port }}
{{- end -}}
{{- end -}}
