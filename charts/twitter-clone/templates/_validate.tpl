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
{{- if and (not .Values.redis.enabled) (contains "common.bundledRedisName" .Values.global.redis.existingSecret) -}}
{{- fail "redis.enabled is false, but global.redis.existingSecret still names the Secret of the bundled Redis: set it to a Secret that holds the URL of your Redis under the key global.redis.key" -}}
{{- end -}}
{{- if and .Values.cache.enabled (not .Values.global.cache.existingSecret) -}}
{{- fail "cache.enabled is true, but global.cache.existingSecret is empty, so nobody would use it: set it to {{ include \"common.bundledCacheName\" . }}, or to the Secret of cache.auth.existingSecret" -}}
{{- end -}}
{{- if and (not .Values.cache.enabled) (contains "common.bundledCacheName" .Values.global.cache.existingSecret) -}}
{{- fail "cache.enabled is false, but global.cache.existingSecret names the Secret of the bundled one: enable it, or name a Secret that holds the URL of yours under the key global.cache.key" -}}
{{- end -}}
{{- if and .Values.redis.enabled .Values.cache.enabled (eq (include "common.bundledRedisName" .) (include "common.bundledCacheName" .)) -}}
{{- fail (printf "release name %q has both \"redis\" and \"cache\" in it, so both would be called that: choose another one" .Release.Name) -}}
{{- end -}}
{{- range $part, $name := dict "redis" "common.bundledRedisName" "cache" "common.bundledCacheName" -}}
{{- if (get $.Values $part).enabled }}{{ include "twitter-clone.validateBundledSecret" (list $ $part $name) }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* That a Redis of ours and those who use it mean one Secret: (list . "redis" "common.bundledRedisName") */}}
{{- define "twitter-clone.validateBundledSecret" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $values := get $root.Values $part -}}
{{- $global := get $root.Values.global $part -}}
{{- if contains (index . 2) $global.existingSecret -}}
{{- range $key := list "fullnameOverride" "nameOverride" -}}
{{- with get $values $key -}}
{{- fail (printf "%s.%s is %q, which gives the Secret with Redis' URL another name: set global.%s.existingSecret to that name" $part $key . $part) -}}
{{- end -}}
{{- end -}}
{{- with $values.auth.existingSecret -}}
{{- fail (printf "%s.auth.existingSecret is %q, so the Redis chart makes no Secret with a URL: put the URL into yours under the key %q and set global.%s.existingSecret to its name" $part . $global.key $part) -}}
{{- end -}}
{{- end -}}
{{- if not $values.auth.enabled -}}
{{- fail (printf "%s.auth.enabled is false, so there is no Secret with a URL, and anybody who reaches Redis could write to it: leave it true" $part) -}}
{{- end -}}
{{- if not (or $values.auth.existingSecret $values.auth.password (include "common.hasCluster" $root)) -}}
{{- fail (printf "%s.auth.existingSecret is empty and there is no cluster to look the Secret %q up in (helm template, Argo CD, skaffold render): a password made up here would be another one at every render. Create a Secret with the keys %q and %q, and set %s.auth.existingSecret and global.%s.existingSecret to its name" $part (include (index . 2) $root) $values.auth.existingSecretPasswordKey $global.key $part $part) -}}
{{- end -}}
{{- end -}}

{{- define "twitter-clone.validateRedisIsSafe" -}}
{{- $redis := .Values.redis -}}
{{- if ne $redis.architecture "standalone" -}}
{{- fail (printf "redis.architecture is %q, but a failover to a replica could lose acknowledged writes: only standalone is supported" $redis.architecture) -}}
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
