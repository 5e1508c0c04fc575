{{/* The name of everything in this release. */}}
{{- define "usa.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a Deployment selects by; never changes once installed. Takes (dict "root" $ "component" …). */}}
{{- define "usa.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of every object. Takes (dict "root" $ "component" …). */}}
{{- define "usa.labels" -}}
{{ include "usa.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "usa.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* An environment variable from a Secret. Takes (dict "name" … "from" …). */}}
{{- define "usa.secret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .from.name }}
      key: {{ .from.key }}
{{- end -}}

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
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
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
