{{/* Parts of a pod. They meet the Pod Security Standard "restricted". */}}

{{- define "common.podMetadata" -}}
labels:
  {{- include "common.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/part-of: twitter-clone
annotations:
  checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
  {{- $metricsPort := include "common.port" (list (include "common.component" .) "metrics") }}
  {{- if and $metricsPort (eq (include "common.scrape" .) "annotations") }}
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ $metricsPort | quote }}
  prometheus.io/path: /metrics
  {{- end }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Everything of a pod but its containers and volumes */}}
{{- define "common.podSpec" -}}
serviceAccountName: {{ include "common.fullname" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  {{- include "common.podSecurityContext" . | nindent 2 }}
{{- with ((.Values.global).image).pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The user that each image runs as */}}
{{- define "common.uid" -}}
{{- eq (include "common.component" .) "edge" | ternary 101 10001 -}}
{{- end -}}

{{- define "common.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ include "common.uid" . }}
runAsGroup: {{ include "common.uid" . }}
fsGroup: {{ include "common.uid" . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "common.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Spread over nodes, then over zones, as far as there are any; each revision counts for itself */}}
{{- define "common.topologySpread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "common.selectorLabels" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}

{{/* Image, security, resources, configuration and stop of the one container */}}
{{- define "common.container" -}}
image: {{ include "common.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "common.containerSecurityContext" . | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- with .Values.preStopSleepSeconds }}
# Until nobody sends requests here any more.
lifecycle:
  preStop:
    sleep:
      seconds: {{ . }}
{{- end }}
{{- end -}}

{{- define "common.containerPorts" -}}
{{- $component := include "common.component" . -}}
- name: http
  containerPort: {{ include "common.port" (list $component "http") }}
- name: metrics
  containerPort: {{ include "common.port" (list $component "metrics") }}
{{- end -}}

{{/* Liveness: the event loop answers. Readiness: what this pod needs. Start-up may take its time. */}}
{{- define "common.probes" -}}
startupProbe:
  httpGet: {path: /healthz/startup, port: http}
  periodSeconds: 1
  timeoutSeconds: 1
  failureThreshold: {{ .Values.startupSecondsMax }}
livenessProbe:
  httpGet: {path: /healthz/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /healthz/ready, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end -}}
