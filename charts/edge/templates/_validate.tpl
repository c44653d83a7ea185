{{- define "edge.validate" -}}
{{- include "common.validateGracePeriod" (list . 12) -}}
{{- end -}}

{{/* include "edge.upstream" (list . "read-service" .Values.readService) */}}
{{- define "edge.upstream" -}}
{{- $server := printf "server %s max_fails=0;" (index . 2 | default (include "common.siblingUrl" . | trimPrefix "http://")) -}}
# Twice, because nginx does not try again when there is only one.
{{ $server }}
{{ $server }}
{{- end -}}
