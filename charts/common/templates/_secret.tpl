{{/*
A Secret with one generated value: made at the first install, kept over upgrades and uninstalls. "instead" is the value
that names a Secret of the user's own:
include "common.generatedSecret" (dict "root" . "name" "rel-x" "key" "k" "content" (randAlphaNum 48) "instead" "x.existingSecret")
*/}}
{{- define "common.generatedSecret" -}}
{{- $root := .root -}}
{{- $existing := lookup "v1" "Secret" $root.Release.Namespace .name -}}
{{- if not (or $existing (include "common.hasCluster" $root)) -}}
{{- fail (printf "%s: %s names no Secret of yours, and there is no cluster to look %q up in (helm template, Argo CD, skaffold render): a value made up here would be another one at every render. Create a Secret with the key %q and set %s to its name" $root.Chart.Name .instead .name .key .instead) -}}
{{- end -}}
{{- $data := dict .key (b64enc .content) -}}
{{- with $existing }}{{ $data = merge (.data | default dict) $data }}{{ end -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ .name }}
  labels:
    app.kubernetes.io/name: {{ $root.Chart.Name }}
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    {{- include "common.releaseLabels" $root | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
type: Opaque
data:
  {{- toYaml $data | nindent 2 }}
{{- end -}}

{{/*
Whether `lookup` works: every namespace holds kube-root-ca.crt. One that is only being created (--create-namespace)
does not, but whoever may create namespaces may look another one up.
*/}}
{{- define "common.hasCluster" -}}
{{- if or (lookup "v1" "ConfigMap" .Release.Namespace "kube-root-ca.crt") (lookup "v1" "Namespace" "" "default") -}}
true
{{- end -}}
{{- end -}}
