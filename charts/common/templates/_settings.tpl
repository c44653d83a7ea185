{{/* A service's settings: its environment variables. */}}

{{/* As a ConfigMap's data, which holds strings only: include "common.settings" (list . (dict "NAME" "what the chart fills in")) */}}
{{- define "common.settings" -}}
{{- range $name, $value := merge (dict) (index . 0).Values.env (index . 1) }}
{{ $name }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end -}}
{{- end -}}

{{- define "common.secretEnv" -}}
{{- range $name, $secret := .Values.secretEnv }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end -}}
{{- end -}}
