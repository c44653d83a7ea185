{{- define "edge.validate" -}}
{{- include "common.validateGracePeriod" (list . 12) -}}
{{- end -}}

{{/* include "edge.upstream" (list . "read-service" .Values.readService) */}}
{{- define "edge.upstream" -}}
{{- $server := printf "server %s max_fails=0;" (index . 2 | default (include "common.siblingUrl" . | trimPrefix "http://")) -}}
# As often as a request may be tried, because nginx tries none of them twice.
{{ range until 5 }}{{ $server }}
{{ end -}}
{{- end -}}
