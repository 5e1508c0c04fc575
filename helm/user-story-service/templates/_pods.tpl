{{/* How every pod is confined. */}}
{{- define "usa.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "usa.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* Labels and annotations of a pod. Takes (dict "root" $ "component" …). */}}
{{- define "usa.podMetadata" -}}
labels:
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "usa.selector" . | nindent 2 }}
{{- if or .checksum .root.Values.podAnnotations }}
annotations:
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .checksum }}
  checksum/config: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What every pod has besides its containers. */}}
{{- define "usa.pod" -}}
automountServiceAccountToken: false
# A Service called "usa" would otherwise set USA_PORT to an address.
enableServiceLinks: false
securityContext:
  {{- include "usa.podSecurity" . | nindent 2 }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- with .Values.certificatesSecret }}
  - name: certificates
    secret:
      secretName: {{ . }}
  {{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where the pods of a Deployment may run. Takes (dict "root" $ "component" …). */}}
{{- define "usa.scheduling" -}}
{{- $values := index .root.Values .component -}}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: {{ $.root.Values.topologySpread.whenUnsatisfiable }}
    # Old pods that are still leaving must not say where new ones go.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "usa.selector" $ | nindent 8 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every container has besides its command. */}}
{{- define "usa.container" -}}
image: {{ include "usa.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "usa.containerSecurity" . | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if .Values.certificatesSecret }}
  - name: certificates
    mountPath: /etc/usa/certificates
    readOnly: true
  {{- end }}
{{- end -}}

{{/* Secrets of api and worker alike. */}}
{{- define "usa.commonSecrets" -}}
{{ include "usa.secret" (dict "name" "DATABASE_URL" "from" .Values.secrets.databaseUrl) }}
{{ include "usa.secret" (dict "name" "REDIS_URL" "from" .Values.secrets.redisUrl) }}
{{- with .Values.secrets.otlpHeaders }}
{{ include "usa.secret" (dict "name" "OTEL_EXPORTER_OTLP_HEADERS" "from" .) }}
{{- end }}
{{- end -}}

{{/* Probes of api and worker alike. Takes the name of the port. */}}
{{- define "usa.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 1
  # Longer than a process tries to reach its servers before it gives up.
  failureThreshold: 90
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}
