{{/* What the owner and a restore have in common: settings and volumes. */}}

{{- define "db-updater.environment" -}}
envFrom:
  - configMapRef:
      name: {{ include "common.fullname" . }}
env:
  {{- include "common.redisEnv" . | nindent 2 }}
  {{- with include "common.secretEnv" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "db-updater.volumeMounts" -}}
volumeMounts:
  - name: data
    mountPath: /data
  {{- if .Values.backup.enabled }}
  - name: backups
    mountPath: /backups
  {{- end }}
  - name: tmp
    mountPath: /tmp
  {{- with include "common.redisVolumeMounts" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* All but the data, which the StatefulSet gives its pod by itself */}}
{{- define "db-updater.volumes" -}}
{{- if .Values.backup.enabled -}}
- name: backups
  persistentVolumeClaim:
    claimName: {{ include "db-updater.backupClaim" . }}
{{ end -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with include "common.redisVolumes" . }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "db-updater.backupClaim" -}}
{{- .Values.backup.existingClaim | default (printf "%s-backups" (include "common.fullname" .)) -}}
{{- end -}}

{{- define "db-updater.backupPath" -}}
/backups{{ with .Values.restore.backup }}{{ if ne . "newest" }}/{{ . }}{{ end }}{{ end }}
{{- end -}}
