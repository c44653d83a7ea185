{{/* Where Redis is: a Secret with its URL, named by redis.existingSecret or, for all charts, global.redis.existingSecret */}}

{{- define "common.redis" -}}
{{- $own := .Values.redis | default dict -}}
{{- $global := (.Values.global).redis | default dict -}}
{{- $secret := tpl ($own.existingSecret | default $global.existingSecret | default "") . -}}
{{- if not $secret -}}
{{- fail (printf "%s: redis.existingSecret is empty, but there must be a log to follow: name a Secret that holds the URL of a Redis, as redis://user:password@host:6379, under the key %q" .Chart.Name ($own.key | default $global.key | default "uri")) -}}
{{- end -}}
{{- dict "secret" $secret "key" ($own.key | default $global.key | default "uri") "caSecret" ($own.caSecret | default $global.caSecret | default "") | toJson -}}
{{- end -}}

{{/* The name that the bundled Redis chart gives its Service and its Secret */}}
{{- define "common.bundledRedisName" -}}
{{- contains "redis" .Release.Name | ternary .Release.Name (printf "%s-redis" .Release.Name) -}}
{{- end -}}

{{- define "common.redisEnv" -}}
{{- $redis := include "common.redis" . | fromJson -}}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $redis.secret }}
      key: {{ $redis.key }}
{{- end -}}

{{/* The name that the Redis chart gives the Service and the Secret of the second Redis */}}
{{- define "common.bundledCacheName" -}}
{{- contains "cache" .Release.Name | ternary .Release.Name (printf "%s-cache" .Release.Name) -}}
{{- end -}}

{{/* Where a Redis that may lose everything is, if there is one: global.cache.existingSecret, unless secretEnv says it */}}
{{- define "common.cacheEnv" -}}
{{- $cache := (.Values.global).cache | default dict -}}
{{- $secret := tpl ($cache.existingSecret | default "") . -}}
{{- if and $secret (not (hasKey .Values.secretEnv "CACHE_URL")) -}}
- name: CACHE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $cache.key | default "uri" }}
{{- end -}}
{{- end -}}

{{- define "common.redisVolumeMounts" -}}
{{- $redis := include "common.redis" . | fromJson -}}
{{- if $redis.caSecret -}}
- name: redis-ca
  mountPath: /etc/redis-ca
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "common.redisVolumes" -}}
{{- $redis := include "common.redis" . | fromJson -}}
{{- if $redis.caSecret -}}
- name: redis-ca
  secret:
    secretName: {{ $redis.caSecret }}
{{- end -}}
{{- end -}}
