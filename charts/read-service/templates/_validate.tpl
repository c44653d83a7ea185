{{- define "read-service.validate" -}}
{{- include "common.validateAutoscaling" . -}}
{{- include "common.validateGracePeriod" (list . 8) -}}
{{- end -}}
