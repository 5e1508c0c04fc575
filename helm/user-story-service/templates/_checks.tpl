{{/* How long an api's pod gets to stop, checked against what the api takes. */}}
{{- define "usa.apiTermination" -}}
{{- $before := add .Values.api.preStopSeconds .Values.api.drainSeconds -}}
{{- $termination := int (default (add $before 35) .Values.api.terminationGracePeriodSeconds) -}}
{{- if ge (add $before 30) $termination -}}
{{- fail (printf "api.terminationGracePeriodSeconds (%d) must be more than api.preStopSeconds + api.drainSeconds (%d) + 30: an api that is killed while it writes loses what it was about to write" $termination $before) -}}
{{- end -}}
{{- $termination -}}
{{- end -}}

{{/* How long a worker's pod gets to stop, checked against what the worker takes. */}}
{{- define "usa.workerTermination" -}}
{{- $grace := int .Values.worker.shutdownGraceSeconds -}}
{{- $termination := int (default (add $grace 15) .Values.worker.terminationGracePeriodSeconds) -}}
{{- if ge (add $grace 10) $termination -}}
{{- fail (printf "worker.terminationGracePeriodSeconds (%d) must be more than worker.shutdownGraceSeconds (%d) + 10: a worker that is killed while it hands back makes its jobs wait for their leases to run out" $termination $grace) -}}
{{- end -}}
{{- $termination -}}
{{- end -}}

{{/* Refuses bounds that no autoscaler takes. Takes (dict "name" … "min" … "max" …). */}}
{{- define "usa.checkBounds" -}}
{{- if gt (int .min) (int .max) -}}
{{- fail (printf "%s.minReplicas (%d) must not be more than %s.maxReplicas (%d)" .name (int .min) .name (int .max)) -}}
{{- end -}}
{{- end -}}

{{/* Refuses what the autoscaler of workers could not work with. */}}
{{- define "usa.checkWorkerAutoscaling" -}}
{{- $scaling := .Values.worker.autoscaling -}}
{{- include "usa.checkBounds" (dict "name" "worker.autoscaling" "min" $scaling.minReplicas "max" $scaling.maxReplicas) -}}
{{- if eq $scaling.by "hpa" -}}
{{- if lt (int $scaling.minReplicas) 1 -}}
{{- fail "worker.autoscaling.minReplicas must be at least 1 by hpa: only keda wakes workers from zero" -}}
{{- end -}}
{{- else -}}
{{- $redis := $scaling.keda.redis -}}
{{- if not $redis.addresses -}}
{{- fail "worker.autoscaling.keda.redis.addresses must say where Redis is, as host:port: KEDA cannot read REDIS_URL" -}}
{{- end -}}
{{- if and (eq $redis.type "redis-streams") (gt (len $redis.addresses) 1) -}}
{{- fail "worker.autoscaling.keda.redis.addresses must be one, or its type redis-sentinel-streams or redis-cluster-streams" -}}
{{- end -}}
{{- if ne (eq $redis.type "redis-sentinel-streams") (not (not $redis.sentinelMaster)) -}}
{{- fail "worker.autoscaling.keda.redis.sentinelMaster must be set for redis-sentinel-streams, and for nothing else" -}}
{{- end -}}
{{- if lt (int $scaling.keda.cooldownSeconds) (int .Values.worker.shutdownGraceSeconds) -}}
{{- fail (printf "worker.autoscaling.keda.cooldownSeconds (%d) must be at least worker.shutdownGraceSeconds (%d): what a job may take to end it must also be given before the last worker goes" (int $scaling.keda.cooldownSeconds) (int .Values.worker.shutdownGraceSeconds)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
