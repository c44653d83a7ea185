{{/* Rules that no schema can state. Each message says the value, the reason and the remedy. */}}
{{- define "twitter-clone.validate" -}}
{{- include "twitter-clone.validateIngress" . -}}
{{- include "twitter-clone.validateMonitoring" . -}}
{{- include "twitter-clone.validateRedisSecret" . -}}
{{- if .Values.redis.enabled }}{{ include "twitter-clone.validateRedisIsSafe" . }}{{ end -}}
{{- end -}}

{{- define "twitter-clone.validateIngress" -}}
{{- with .Values.ingress -}}
{{- if and (eq .mode "edge") (not $.Values.edge.enabled) -}}
{{- fail "ingress.mode is edge, but edge.enabled is false: enable the edge, or choose ingress.mode hosts, httpRoute or none" -}}
{{- end -}}
{{- if and (eq .mode "hosts") (not (and .hosts.read .hosts.write (ne .hosts.read .hosts.write))) -}}
{{- fail (printf "ingress.mode is hosts, but ingress.hosts.read is %q and ingress.hosts.write is %q: set two different hosts" .hosts.read .hosts.write) -}}
{{- end -}}
{{- if and (eq .mode "httpRoute") (not .gateway.name) -}}
{{- fail "ingress.mode is httpRoute, but ingress.gateway.name is empty: name the Gateway that the route belongs to" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "twitter-clone.validateMonitoring" -}}
{{- range $part := list "alerts" "dashboards" -}}
{{- if and (get $.Values $part).enabled (ne $.Values.global.metrics.scrape "serviceMonitor") -}}
{{- fail (printf "%s.enabled is true, but global.metrics.scrape is %s, so no target would have the labels that they ask for: set it to serviceMonitor" $part $.Values.global.metrics.scrape) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "twitter-clone.validateRedisSecret" -}}
{{- $isBundled := contains "common.bundledRedisName" .Values.global.redis.existingSecret -}}
{{- if and $isBundled (not .Values.redis.enabled) -}}
{{- fail "redis.enabled is false, but global.redis.existingSecret still names the Secret of the bundled Redis: set it to a Secret that holds the URL of your Redis under the key global.redis.key" -}}
{{- end -}}
{{- if and $isBundled .Values.redis.enabled -}}
{{- range $key := list "fullnameOverride" "nameOverride" -}}
{{- with get $.Values.redis $key -}}
{{- fail (printf "redis.%s is %q, which gives the Secret with Redis' URL another name: set global.redis.existingSecret to that name" $key .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.redis.auth.existingSecret -}}
{{- fail (printf "redis.auth.existingSecret is %q, so the Redis chart makes no Secret with a URL: put the URL into yours under the key %q and set global.redis.existingSecret to its name" . $.Values.global.redis.key) -}}
{{- end -}}
{{- end -}}
{{- with .Values.redis -}}
{{- if and .enabled (not .auth.existingSecret) (not .auth.password) (not (include "common.hasCluster" $)) -}}
{{- fail (printf "redis.auth.existingSecret is empty and there is no cluster to look the Secret %q up in (helm template, Argo CD, skaffold render): a password made up here would be another one at every render. Create a Secret with the keys %q and %q, and set redis.auth.existingSecret and global.redis.existingSecret to its name" (include "common.bundledRedisName" $) .auth.existingSecretPasswordKey $.Values.global.redis.key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "twitter-clone.validateRedisIsSafe" -}}
{{- $redis := .Values.redis -}}
{{- if ne $redis.architecture "standalone" -}}
{{- fail (printf "redis.architecture is %q, but a failover to a replica could lose acknowledged writes: only standalone is supported" $redis.architecture) -}}
{{- end -}}
{{- if not $redis.auth.enabled -}}
{{- fail "redis.auth.enabled is false, so anybody who reaches Redis could write to the log: leave it true" -}}
{{- end -}}
{{- if not $redis.persistence.enabled -}}
{{- fail "redis.persistence.enabled is false, so acknowledged writes would go with Redis' pod: leave it true" -}}
{{- end -}}
{{- /* Redis takes the last line of a kind; extraConfig comes after content. */ -}}
{{- $lines := regexSplit "\n" (printf "%s\n%s" $redis.config.content ($redis.extraConfig | default "")) -1 -}}
{{- $set := dict "appendonly" "no" "appendfsync" "everysec" "maxmemory-policy" "noeviction" -}}
{{- range $lines -}}
{{- $words := splitList " " (regexReplaceAll "\\s+" . " " | trim | lower) -}}
{{- if and (hasKey $set (first $words)) (gt (len $words) 1) -}}
{{- $_ := set $set (first $words) (index $words 1 | trimAll "\"'") -}}
{{- end -}}
{{- end -}}
{{- range $directive, $value := dict "appendonly" "yes" "appendfsync" "always" -}}
{{- if ne (get $set $directive) $value -}}
{{- fail (printf "redis.config sets %s to %s, so Redis would lose writes it has acknowledged: set it to %s" $directive (get $set $directive) $value) -}}
{{- end -}}
{{- end -}}
{{- if hasPrefix "allkeys-" (get $set "maxmemory-policy") -}}
{{- fail (printf "redis.config sets maxmemory-policy to %s, which lets Redis evict the log itself: use volatile-lru" (get $set "maxmemory-policy")) -}}
{{- end -}}
{{- end -}}
