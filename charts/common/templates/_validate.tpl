{{/* Rules that no schema can state. Each message says the value, the reason and the remedy. */}}

{{- define "common.validateAutoscaling" -}}
{{- with .Values.autoscaling -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "%s: autoscaling.minReplicas is %d, more than autoscaling.maxReplicas, %d: raise the second or lower the first" $.Chart.Name (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- if and .enabled (not (dig "requests" "cpu" "" $.Values.resources)) -}}
{{- fail (printf "%s: autoscaling.enabled is true, but utilization is measured against resources.requests.cpu, which is empty: set it" $.Chart.Name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* include "common.validateGracePeriod" (list . 8): the process itself may take 8 s to drain */}}
{{- define "common.validateGracePeriod" -}}
{{- $root := index . 0 -}}
{{- $needed := add ($root.Values.preStopSleepSeconds | default 0) (index . 1) -}}
{{- if lt (int $root.Values.terminationGracePeriodSeconds) (int $needed) -}}
{{- fail (printf "%s: terminationGracePeriodSeconds is %d, but preStopSleepSeconds and up to %d s to finish requests need %d: raise it, or the pod is killed with requests under way" $root.Chart.Name (int $root.Values.terminationGracePeriodSeconds) (index . 1) $needed) -}}
{{- end -}}
{{- end -}}
