{{/* Jobs that one worker runs at the same time: what one more of them is worth. */}}
{{- define "usa.jobsPerWorker" -}}
{{- default "3" .Values.config.USA_CONCURRENCY -}}
{{- end -}}

{{/* How workers become more and fewer, whoever says so. */}}
{{- define "usa.workerBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
scaleDown:
  stabilizationWindowSeconds: {{ .Values.worker.autoscaling.stabilizationSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}

{{/* How KEDA reaches Redis, in every trigger alike. */}}
{{- define "usa.kedaRedis" -}}
{{- $redis := .Values.worker.autoscaling.keda.redis -}}
{{- if eq $redis.type "redis-streams" -}}
address: {{ first $redis.addresses | quote }}
{{- else -}}
addresses: {{ join "," $redis.addresses | quote }}
{{- end }}
{{- if ne $redis.type "redis-cluster-streams" }}
databaseIndex: {{ $redis.databaseIndex | quote }}
{{- end }}
{{- with $redis.sentinelMaster }}
sentinelMaster: {{ . | quote }}
{{- end }}
enableTLS: {{ $redis.tls | quote }}
{{- end -}}

{{/* What KEDA authenticates with, as {parameter: {name, key}}; empty if Redis asks nobody. */}}
{{- define "usa.kedaSecrets" -}}
{{- $redis := .Values.worker.autoscaling.keda.redis -}}
{{- range $parameter := list "username" "password" "sentinelUsername" "sentinelPassword" "ca" }}
{{- with index $redis $parameter }}
- parameter: {{ $parameter }}
  name: {{ .name }}
  key: {{ .key }}
{{- end }}
{{- end }}
{{- end -}}
