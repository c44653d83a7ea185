{{/* Names and labels. A name is always <release>-<chart>, so that the charts of one release find each other. */}}

{{- define "common.fullname" -}}
{{- include "common.siblingName" (list . .Chart.Name) -}}
{{- end -}}

{{/* The name of another chart's objects in this release: include "common.siblingName" (list . "db-updater") */}}
{{- define "common.siblingName" -}}
{{- $root := index . 0 -}}
{{- if gt (len $root.Release.Name) 40 -}}
{{- fail (printf "release name %q has %d characters, but <release>-write-service must fit into 63 with what Kubernetes adds: choose one of at most 40" $root.Release.Name (len $root.Release.Name)) -}}
{{- end -}}
{{- printf "%s-%s" $root.Release.Name (index . 1) -}}
{{- end -}}

{{/* Ports of a component's container: include "common.port" (list "read" "http") */}}
{{- define "common.port" -}}
{{- $ports := dict
  "read" (dict "http" 8000 "metrics" 9100)
  "write" (dict "http" 8001 "metrics" 9101)
  "db-updater" (dict "http" 8002 "metrics" 9102)
  "edge" (dict "http" 8080 "probes" 8081) -}}
{{- get (get $ports (index . 0)) (index . 1) -}}
{{- end -}}

{{/* include "common.siblingUrl" (list . "read-service") */}}
{{- define "common.siblingUrl" -}}
{{- $port := include "common.port" (list (index . 1 | trimSuffix "-service") "http") -}}
http://{{ include "common.siblingName" . }}:{{ $port }}
{{- end -}}

{{/* read, write, db-updater, edge */}}
{{- define "common.component" -}}
{{- .Chart.Name | trimSuffix "-service" -}}
{{- end -}}

{{- define "common.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ include "common.component" . }}
{{- end -}}

{{- define "common.labels" -}}
{{ include "common.selectorLabels" . }}
{{ include "common.releaseLabels" . }}
{{- end -}}

{{- define "common.releaseLabels" -}}
app.kubernetes.io/part-of: twitter-clone
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* registry/repository:tag of .Values.image; what the chart leaves empty, global.image gives, then the appVersion */}}
{{- define "common.image" -}}
{{- include "common.imageOf" (list . .Values.image) -}}
{{- end -}}

{{- define "common.imageOf" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $global := (($root.Values.global).image) | default dict -}}
{{- with $image.registry | default $global.registry }}{{ . }}/{{ end -}}
{{- $image.repository }}:{{ $image.tag | default $global.tag | default $root.Chart.AppVersion -}}
{{- end -}}
