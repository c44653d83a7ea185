{{/* Whole objects that are the same for every service. */}}

{{- define "common.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "common.fullname" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end -}}

{{/* Ports of a service's Service: the API and the metrics */}}
{{- define "common.servicePorts" -}}
{{- $component := include "common.component" . -}}
- name: http
  port: {{ include "common.port" (list $component "http") }}
  targetPort: http
- name: metrics
  port: {{ include "common.port" (list $component "metrics") }}
  targetPort: metrics
{{- end -}}

{{/* One pod at a time. A pod that is not ready anyway keeps nobody from draining its node. */}}
{{- define "common.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "common.fullname" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "common.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- define "common.horizontalPodAutoscaler" -}}
{{- with .Values.autoscaling }}
{{- if .enabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "common.fullname" $ }}
  labels:
    {{- include "common.labels" $ | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "common.fullname" $ }}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .cpuUtilization }}
    {{- with .requestsPerSecond }}
    - type: Pods
      pods:
        metric:
          name: http_requests_per_second
        target:
          type: AverageValue
          averageValue: {{ . | quote }}
    {{- end }}
  {{- with .behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* none, annotations or serviceMonitor */}}
{{- define "common.scrape" -}}
{{- (.Values.metrics).scrape | default ((.Values.global).metrics).scrape | default "none" -}}
{{- end -}}

{{- define "common.serviceMonitor" -}}
{{- if eq (include "common.scrape" .) "serviceMonitor" }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "common.fullname" . }}
  labels:
    {{- include "common.labels" . | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "common.selectorLabels" . | nindent 6 }}
  endpoints:
    - port: metrics
      interval: 15s
{{- end }}
{{- end -}}

{{/*
A pod of `helm test` that asks a service until it answers 200, for 30 s at most:
include "common.testPod" (dict "root" . "image" .Values.image "url" "http://...")
*/}}
{{- define "common.testPod" -}}
{{- $root := .root -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "common.fullname" $root }}-test
  labels:
    {{- include "common.testLabels" $root | nindent 4 }}
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  {{- include "common.testPodSpec" $root | nindent 2 }}
  containers:
    - name: test
      image: {{ include "common.imageOf" (list $root .image) }}
      imagePullPolicy: {{ .image.pullPolicy }}
      securityContext:
        {{- include "common.containerSecurityContext" $root | nindent 8 }}
      resources:
        {{- include "common.testResources" $root | nindent 8 }}
      command: [python, -c]
      args:
        - |
          import sys, time, urllib.request

          url, deadline = sys.argv[1], time.monotonic() + 30
          while True:
              try:
                  with urllib.request.urlopen(url, timeout=5) as answer:
                      sys.exit(print(url, answer.status, answer.read().decode()))
              except OSError as error:
                  if time.monotonic() > deadline:
                      sys.exit(f"{url}: {error}")
                  time.sleep(1)
        - {{ .url }}
{{- end -}}

{{- define "common.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{ include "common.releaseLabels" . }}
{{- end -}}

{{- define "common.testPodSpec" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with ((.Values.global).image).pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "common.testResources" -}}
requests: {cpu: 10m, memory: 32Mi}
limits: {memory: 128Mi}
{{- end -}}
