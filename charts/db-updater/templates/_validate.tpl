{{- define "db-updater.validate" -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- fail (printf "db-updater: replicaCount is %d, but exactly one process may own the database: keep 1 (0 stops it); more reads come from more pods of the read-service" (int .Values.replicaCount)) -}}
{{- end -}}
{{- if eq .Values.persistence.accessMode "ReadWriteMany" -}}
{{- fail "db-updater: persistence.accessMode is ReadWriteMany, but SQLite on a volume that several nodes write to is damaged sooner or later: use ReadWriteOncePod, or ReadWriteOnce where the storage has no better" -}}
{{- end -}}
{{- include "db-updater.validateBackup" . -}}
{{- include "common.validateGracePeriod" (list . 8) -}}
{{- end -}}

{{- define "db-updater.validateBackup" -}}
{{- if and .Values.backup.enabled (hasKey .Values.secretEnv "DATABASE_URL") -}}
{{- fail "db-updater: backup.enabled is true, but secretEnv.DATABASE_URL names a database that is not on the volume: leave one of them out; PostgreSQL is backed up with its own tools" -}}
{{- end -}}
{{- with .Values.restore.backup -}}
{{- if not $.Values.backup.enabled -}}
{{- fail (printf "db-updater: restore.backup is %q, but backup.enabled is false, so there is no volume with backups: set it" .) -}}
{{- end -}}
{{- if $.Values.replicaCount -}}
{{- fail (printf "db-updater: restore.backup is %q, but replicaCount is %d, and a restore needs the volume for itself: set replicaCount to 0 first, and restore.backup when the pod is gone" . (int $.Values.replicaCount)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
