{{/*
The keys that tokens are signed with: a Secret, named by authKeys.existingSecret or, for all charts,
global.authKeys.existingSecret. Without one nobody is given a token.
*/}}
{{- define "common.authKeysSecret" -}}
{{- tpl ((.Values.authKeys).existingSecret | default ((.Values.global).authKeys).existingSecret | default "") . -}}
{{- end -}}

{{- define "common.authKeysKey" -}}
{{- (.Values.authKeys).key | default ((.Values.global).authKeys).key | default "auth_keys.json" -}}
{{- end -}}

{{/* The name of the Secret that the umbrella makes */}}
{{- define "common.bundledAuthKeysName" -}}
{{- include "common.siblingName" (list . "auth-keys") -}}
{{- end -}}

{{- define "common.authKeysEnv" -}}
{{- if include "common.authKeysSecret" . -}}
- name: AUTH_KEYS_FILE
  value: /etc/auth-keys/{{ include "common.authKeysKey" . }}
{{- end -}}
{{- end -}}

{{/* A whole directory: a file that is mounted by a subPath would never change, and keys are replaced while pods run. */}}
{{- define "common.authKeysVolumeMounts" -}}
{{- if include "common.authKeysSecret" . -}}
- name: auth-keys
  mountPath: /etc/auth-keys
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "common.authKeysVolumes" -}}
{{- with include "common.authKeysSecret" . -}}
- name: auth-keys
  secret:
    secretName: {{ . }}
{{- end -}}
{{- end -}}
