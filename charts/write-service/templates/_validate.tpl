{{- define "write-service.validate" -}}
{{- include "common.validateAutoscaling" . -}}
{{- include "common.validateGracePeriod" (list . 8) -}}
{{- if and .Values.env.AUTH_REQUIRED (not (include "common.authKeysSecret" .)) -}}
{{- fail "write-service: env.AUTH_REQUIRED is true, but authKeys.existingSecret is empty, so nobody could be given a token: name a Secret with keys, or set env.AUTH_REQUIRED to false and let anybody write in anybody's name" -}}
{{- end -}}
{{- end -}}

{{- define "write-service.secretName" -}}
{{- .Values.emailHashKey.existingSecret | default (include "common.fullname" .) -}}
{{- end -}}
