{{- define "db-updater.validate" -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- fail (printf "db-updater: replicaCount is %d, but exactly one process may own the database: keep 1 (0 stops it); more reads come from more pods of the read-service" (int .Values.replicaCount)) -}}
{{- end -}}
{{- if eq .Values.persistence.accessMode "ReadWriteMany" -}}
{{- fail "db-updater: persistence.accessMode is ReadWriteMany, but SQLite on a volume that several nodes write to is damaged sooner or later: use ReadWriteOncePod, or ReadWriteOnce where the storage has no better" -}}
{{- end -}}
{{- include "common.validateGracePeriod" (list . 8) -}}
{{- end -}}
